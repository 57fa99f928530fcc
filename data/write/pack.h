/* pack.h - from a source of samples to a dataset: reading, decoding and compression in worker threads, writing in
 * the caller's.  The result depends on the samples and the options only: not on the number of workers, and not on
 * how often the packing was interrupted and taken up again. */
#ifndef CSC_DATA_WRITE_PACK_H
#define CSC_DATA_WRITE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/format.h"
#include "data/image/image.h"

/* What had to be done to an image to make it 8-bit RGB, or the stored file. */
enum pack_note {
    NOTE_GREY,
    NOTE_CMYK,
    NOTE_DEEP,
    NOTE_DEEP_GREY,
    NOTE_PALETTE,
    NOTE_ALPHA,
    NOTE_MISNAMED,
    NOTE_ROTATED,
    NOTE_RESIZED,
    NOTE_REENCODED,
    NOTES,
};
const char *pack_note_text(enum pack_note note); /* "grey" */

/* The reason in the report for a file beside the samples. */
#define PACK_NOT_AN_IMAGE "not named as an image"

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
    /* Decodes an item; called from several threads. Notes are bits 1 << enum pack_note. STATUS_DATA: a bad sample. */
    enum status (*decode)(const struct pack_source *source, const struct pack_item *item, struct image *image,
                          unsigned *notes);
    /* Bytes of a sample, about, known without reading it. */
    uint64_t (*bytes)(const struct pack_source *source, int64_t index);
    bool parallel;
    bool is_files; /* items are files of images, which the jpeg codec can keep */
    int64_t total;
    uint64_t fingerprint; /* of the samples' names, sizes and labels, in order */
    int classes;
    char **names;
    char **non_images; /* (non_image_count): files beside the samples that are not packed, for the report */
    int64_t non_image_count;
};

enum resize_side { RESIZE_NONE, RESIZE_SHORT, RESIZE_LONGEST };

struct pack_options {
    int workers;
    bool force;        /* replace a dataset, or another packing's beginning */
    bool keep_journal; /* until dataset_writer_remove_journal */
    bool skip_bad;
    enum codec codec;        /* 0: CODEC_RGBZ */
    enum resize_side resize; /* shrinks; smaller images stay as they are */
    int resize_to;
    int part, parts;      /* this part, from 1, of so many; 0, 0: all */
    uint64_t shard_bytes; /* 0: SHARD_TARGET */
    const char *made_by;
};

struct pack_report {
    int64_t samples, skipped, non_images;
    int64_t resumed_at; /* samples of the source that were in before */
    int64_t notes[NOTES];
    uint64_t bytes, raw_bytes;
    double seconds;
};

/* The samples [*first, *end) of a source that a part packs: whole groups of samples, so that blocks do not depend on
 * the parts. STATUS_USAGE if it has none. */
enum status pack_range(const struct pack_options *options, int64_t total, int64_t *first, int64_t *end);

enum status pack_dataset(struct pack_source *source, const char *directory, const struct pack_options *options,
                         struct pack_report *report);

#endif
