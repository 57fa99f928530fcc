/* pack.h - from a source of samples to a dataset: decoding and compression in worker threads,
 * reading and writing in the caller's, the result the same whatever the number of workers. */
#ifndef CSC_DATA_PACK_H
#define CSC_DATA_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format.h"
#include "data/image.h"

/* What had to be done to an image to make it 8-bit RGB. */
enum pack_note {
    NOTE_GREY, NOTE_CMYK, NOTE_DEEP, NOTE_DEEP_GREY, NOTE_PALETTE, NOTE_ALPHA, NOTE_MISNAMED, NOTE_RESIZED, NOTES,
};

/* A sample as its source gives it; buffers are kept and reused. */
struct pack_item {
    int label;
    int64_t index;       /* for sources that make their samples */
    char name[512];      /* for messages */
    uint8_t *data;       /* encoded bytes */
    size_t bytes, capacity;
};

struct pack_source {
    /* Fills the next item, or sets *end. Called in order, from one thread. */
    enum status (*next)(struct pack_source *source, struct pack_item *item, bool *end);
    /* Decodes an item; called from several threads. Notes are bits 1 << enum pack_note. STATUS_DATA: a bad sample. */
    enum status (*decode)(const struct pack_source *source, const struct pack_item *item, struct image *image,
                          unsigned *notes);
    int64_t total;       /* samples, for the progress line; 0 if unknown */
    int classes;
    char **names;
};

enum resize_side { RESIZE_NONE, RESIZE_SHORT, RESIZE_LONGEST };

struct pack_options {
    int workers;
    enum codec codec;    /* 0: rgbz */
    bool force;          /* replace a dataset */
    bool skip_bad;
    enum resize_side resize; /* shrinks; smaller images stay as they are */
    int resize_to;
    const char *made_by;
};

struct pack_report {
    int64_t samples, skipped;
    int64_t notes[NOTES];
    uint64_t bytes, raw_bytes;
    double seconds;
};

enum status pack_dataset(struct pack_source *source, const char *directory, const struct pack_options *options,
                         struct pack_report *report);

#endif
