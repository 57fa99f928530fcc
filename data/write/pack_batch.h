/* pack_batch.h - a run of samples on its way from the packer into a shard, and as a record of the journal. */
#ifndef CSC_DATA_WRITE_PACK_BATCH_H
#define CSC_DATA_WRITE_PACK_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/write/shard_writer.h"

struct batch_sample {
    int label, width, height;
    unsigned notes;     /* bits 1 << enum pack_note */
    const char *name;   /* for the report; "" where there is nothing to report */
    const char *reason; /* why it is left out of the blocks; "" if it is in */
};

/* The samples up to `next` of the input, and the frames that hold them. */
struct batch {
    int64_t next;
    int count, frame_count;
    struct batch_sample *samples; /* (count) */
    struct shard_frame *frames;   /* (frame_count) */
};

/* Whether a sample's line belongs into the report: it was converted, other than made smaller, or left out. */
int batch_is_odd(const struct batch_sample *sample);

/* The record of a batch; the caller frees *record. */
enum status batch_print(const struct batch *batch, uint8_t **record, size_t *bytes);

/* The batch of a record; its names lie in `record`. STATUS_DATA if it is none for a set of `classes`. */
enum status batch_parse(struct batch *batch, const uint8_t *record, size_t bytes, int classes);
void batch_finish(struct batch *batch); /* of batch_parse */

#endif
