/* dataset_internal.h - the parts of an open dataset, for the loader, csc-pack and benchmarks. */
#ifndef CSC_DATA_READ_DATASET_INTERNAL_H
#define CSC_DATA_READ_DATASET_INTERNAL_H

#include "data/format/index.h"
#include "data/format/shard.h"
#include "data/read/dataset.h"
#include "data/read/disk_cache.h"

struct dataset {
    char *directory;
    struct index index;
    struct shard *shards;          /* (index.shard_count) */
    int64_t *first_sample;         /* (index.shard_count + 1): samples of the shards before each, and of all */
    int64_t *first_block;          /* (index.shard_count + 1): blocks of the shards before each, and of all */
    uint64_t raw_bytes;            /* of all blocks, decompressed */
    struct disk_cache *disk_cache; /* copies of blocks on this node's own storage; NULL: none are kept */
};

/* Where a sample is stored. */
struct sample_location {
    int shard;
    uint32_t block;      /* index in the shard */
    int sample;          /* index in the block */
    int64_t block_index; /* index of the block in the dataset */
};

/* Locates a sample by its index in the dataset, which must be below dataset_samples. */
struct sample_location dataset_locate(const struct dataset *dataset, int64_t sample);

int64_t dataset_blocks(const struct dataset *dataset);

/* Reads a block from the disk cache, or else from its shard, from where it is copied into the disk cache; checks and
 * opens it. Counts in reader->read_s and reader->read_bytes. Errors are those of shard_read_block. */
enum status dataset_read_block(const struct dataset *dataset, struct sample_location location,
                               struct block_reader *reader, struct block *block);

/* Like dataset_open, but a part of a packing that holds no sample is allowed. */
enum status dataset_open_part(struct dataset **dataset, const char *directory);

#endif
