/* dataset_internal.h - what the loader and csc-pack see of an open dataset. */
#ifndef CSC_DATA_READ_DATASET_INTERNAL_H
#define CSC_DATA_READ_DATASET_INTERNAL_H

#include "data/format/index.h"
#include "data/format/shard.h"
#include "data/read/dataset.h"
#include "data/read/disk_cache.h"

struct dataset {
    char *directory;
    struct index index;
    struct shard *shards;  /* (index.shard_count) */
    int64_t *first_sample; /* (index.shard_count + 1): positions in the dataset */
    int64_t *first_block;  /* (index.shard_count + 1) */
    uint64_t raw_bytes;    /* decompressed size of all blocks */
    struct disk_cache disk_cache;
};

struct sample_location {
    int shard;
    uint32_t block;      /* in the shard */
    int sample;          /* in the block */
    int64_t block_index; /* of the block in the dataset */
};

struct sample_location dataset_locate(const struct dataset *dataset, int64_t sample);
int64_t dataset_blocks(const struct dataset *dataset);

/* Reads, checks and decodes the block of a location. */
enum status dataset_read_block(const struct dataset *dataset, struct sample_location location,
                               struct block_reader *reader, struct block *block);

/* As dataset_open, but also of a part of a packing that holds no sample. */
enum status dataset_open_part(struct dataset **dataset, const char *directory);

#endif
