/* shard.h - one shard file: a header, blocks of samples, and the table that finds them. */
#ifndef CSC_DATA_FORMAT_SHARD_H
#define CSC_DATA_FORMAT_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/block.h"
#include "data/format/format.h"

struct disk_cache;

/* One row of a shard's table. */
struct shard_entry {
    uint64_t offset;    /* of the frame in the file */
    uint32_t bytes;     /* of the frame */
    uint32_t raw_bytes; /* decoded */
    uint32_t first;     /* sample in the shard */
    uint32_t samples;
    uint64_t hash; /* XXH64 of the frame */
};

struct shard {
    char *path;
    int fd;
    enum codec codec;
    uint64_t bytes;     /* of the file */
    uint64_t raw_bytes; /* of all blocks, decoded */
    uint64_t samples;
    uint64_t hash; /* XXH64 of header and table: what the index knows of the shard */
    uint32_t blocks;
    struct shard_entry *table;
    struct disk_cache *disk_cache; /* the dataset's, or NULL; and the index of this shard there */
    int index;
};

/* Reads and checks header and table. STATUS_IO if it cannot be read, STATUS_DATA if damaged. */
enum status shard_open(struct shard *shard, const char *path);
void shard_close(struct shard *shard); /* zeros are fine */

/* Reads a block and compares its hash, twice if need be; reader->compressed holds it. STATUS_DATA names shard, block,
 * offset and both hashes. */
enum status shard_check_block(const struct shard *shard, uint32_t block, struct block_reader *reader);

/* Asks the system to read a block ahead of its use. */
void shard_prefetch_block(const struct shard *shard, uint32_t block);

/* shard_check_block, then opens it as *out. */
enum status shard_read_block(const struct shard *shard, uint32_t block, int classes, struct block_reader *reader,
                             struct block *out);

#endif
