/* pack_batch.h - a batch of consecutive samples that the packer passes to the dataset writer, which also keeps it as a
 * record of the journal. */
#ifndef CSC_DATA_WRITE_PACK_BATCH_H
#define CSC_DATA_WRITE_PACK_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/write/shard_writer.h"

/* The reason in the report for a file that is not packed because of its name. */
#define PACK_NOT_AN_IMAGE "not named as an image"

struct pack_batch_sample {
    int label, width, height;
    unsigned notes;     /* bits 1 << enum image_note */
    const char *name;   /* for the report */
    const char *reason; /* why the sample is left out; "": it is not */
};

/* Samples and the frames that hold them. */
struct pack_batch {
    int64_t next_sample; /* the source's sample that follows the batch */
    int count, frame_count;
    struct pack_batch_sample *samples; /* (count) */
    struct shard_frame *frames;        /* (frame_count) */
};

/* Whether the report has a line for the sample: it was left out, or converted in another way than by shrinking. */
bool pack_batch_sample_is_reported(const struct pack_batch_sample *sample);

/* Encodes a batch as a record of the journal; the caller frees *record. */
enum status pack_batch_encode(const struct pack_batch *batch, uint8_t **record, size_t *bytes);

/* Decodes a record. The batch's names point into `record`, which must outlive it. STATUS_DATA if the record is damaged
 * or has a label that is not below `classes`. */
enum status pack_batch_decode(struct pack_batch *batch, const uint8_t *record, size_t bytes, int classes);
void pack_batch_finish(struct pack_batch *batch); /* frees what pack_batch_decode allocated */

#endif
