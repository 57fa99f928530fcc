/* pack_batch.h - a run of samples on its way from the packer into a shard, and as a record of the journal. */
#ifndef CSC_DATA_WRITE_PACK_BATCH_H
#define CSC_DATA_WRITE_PACK_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/write/shard_writer.h"

/* The reason in the report for a file beside the samples. */
#define PACK_NOT_AN_IMAGE "not named as an image"

struct pack_batch_sample {
    int label, width, height;
    unsigned notes;     /* bits 1 << enum image_note */
    const char *name;   /* for the report; "" where there is nothing to report */
    const char *reason; /* why it is left out of the blocks; "" if it is in */
};

/* The samples up to `next_sample` of the input, and the frames that hold them. */
struct pack_batch {
    int64_t next_sample;
    int count, frame_count;
    struct pack_batch_sample *samples; /* (count) */
    struct shard_frame *frames;        /* (frame_count) */
};

/* Whether a sample's line belongs into the report: it was converted, other than made smaller, or left out. */
bool pack_batch_sample_is_reported(const struct pack_batch_sample *sample);

/* The record of a batch; the caller frees *record. */
enum status pack_batch_encode(const struct pack_batch *batch, uint8_t **record, size_t *bytes);

/* The batch of a record; its names lie in `record`. STATUS_DATA if it is none for a set of `classes`. */
enum status pack_batch_decode(struct pack_batch *batch, const uint8_t *record, size_t bytes, int classes);
void pack_batch_finish(struct pack_batch *batch); /* of pack_batch_decode */

#endif
