/* pack_source.h - a source of samples: what csc-pack reads a dataset from. */
#ifndef CSC_DATA_WRITE_PACK_SOURCE_H
#define CSC_DATA_WRITE_PACK_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"

/* A sample as its source gives it; buffers are kept and reused. */
struct pack_item {
    int label;
    int64_t index;  /* position in the source */
    char name[512]; /* for messages and the report */
    uint8_t *data;  /* encoded bytes */
    size_t bytes, capacity;
    bool absent; /* why it cannot be read: it is gone or may not be opened, which --bad covers */
};

struct pack_source {
    /* Reads sample `index` of [0, total). If `parallel`, called from several threads in any order; otherwise from
     * one thread, ascending. STATUS_DATA: a bad sample. */
    enum status (*read)(struct pack_source *source, int64_t index, struct pack_item *item);
    /* Decodes an item; called from several threads. Notes are bits 1 << enum image_note. STATUS_DATA: a bad sample. */
    enum status (*decode)(const struct pack_source *source, const struct pack_item *item, struct image *image,
                          unsigned *notes);
    /* Bytes of a sample, about, known without reading it. */
    uint64_t (*bytes)(const struct pack_source *source, int64_t index);
    bool parallel;
    bool is_files; /* items are files of images, which the jpeg codec can keep */
    int64_t total;
    uint64_t fingerprint; /* of the samples' names, sizes and labels, in order */
    int class_count;
    char **class_names;
    char **non_images; /* (non_image_count): files beside the samples that are not packed, for the report */
    int64_t non_image_count;
};

#endif
