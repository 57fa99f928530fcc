/* pack_source.h - a source of samples: what csc-pack reads a dataset from. */
#ifndef CSC_DATA_WRITE_PACK_SOURCE_H
#define CSC_DATA_WRITE_PACK_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"

/* A sample as its source gives it. The buffer is kept for the next sample. */
struct pack_item {
    int label;
    int64_t index;  /* in the source */
    char name[512]; /* for messages and the report */
    uint8_t *data;  /* as the source's decode understands it, such as the bytes of a file */
    size_t bytes, capacity;
    bool absent; /* after a failure: the file is gone or may not be opened, which --bad covers */
};

struct pack_source {
    /* Reads sample `index` of [0, total). Called from several threads in any order if `parallel` is true, else from one
     * thread in ascending order. STATUS_DATA: the sample is bad. */
    enum status (*read)(struct pack_source *source, int64_t index, struct pack_item *item);
    /* Decodes a sample; called from several threads. Adds bits 1 << enum image_note to *notes. STATUS_DATA: the sample
     * is bad. */
    enum status (*decode)(const struct pack_source *source, const struct pack_item *item, struct image *image,
                          unsigned *notes);
    /* The approximate size of a sample in bytes, known without reading it. It decides where jobs end. NULL: all samples
     * have sample_bytes. */
    uint64_t (*bytes)(const struct pack_source *source, int64_t index);
    uint64_t sample_bytes;
    bool parallel;
    bool is_files; /* samples are image files, which the jpeg codec can store */
    int64_t total;
    uint64_t fingerprint; /* hash of the samples' names, sizes and labels, in order */
    int class_count;
    char **class_names;
    char **non_images; /* (non_image_count): files that are not packed, because they are not named as images */
    int64_t non_image_count;
};

#endif
