/* block.h - a block: a run of samples, compressed together as one zstd frame.
 * Decoded, it is a sequence of records (32-byte header + payload), data/FORMAT.md. */
#ifndef CSC_DATA_BLOCK_H
#define CSC_DATA_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image.h"

/* Bytes of the record that block_append would write. */
size_t block_record_bytes(int width, int height);

/* Writes the record of one sample at `out`, in rgbz. */
void block_append(uint8_t *out, int label, const struct image *image);

/* One sample of a decoded block. */
struct block_sample {
    int label, width, height;
    size_t offset; /* of its pixels in block.pixels */
};

/* A decoded block; zero-initialised, it is empty. Buffers are kept from one decode to the next. */
struct block {
    int count;
    struct block_sample *samples;
    uint8_t *pixels; /* (height, width, 3) of each sample, one after the other */
    size_t samples_capacity, pixels_capacity; /* bytes */
    size_t pixels_bytes;
};

/* Parses `bytes` at raw, which must hold exactly `count` records with labels below `classes`, into *block.
 * raw is destroyed; `name` and number are for messages. STATUS_DATA, STATUS_NOMEM. */
enum status block_decode(struct block *block, uint8_t *raw, size_t bytes, uint32_t count, int classes,
                         const char *name, uint32_t number);
void block_finish(struct block *block);

#endif
