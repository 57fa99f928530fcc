/* shard.h - reads a shard: a file of a header, blocks of samples, and a table that locates the blocks. */
#ifndef CSC_DATA_FORMAT_SHARD_H
#define CSC_DATA_FORMAT_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/block.h"
#include "data/format/format.h"
#include "data/format/index.h"

/* What a shard's table says of one block. */
struct shard_entry {
    uint64_t offset;    /* in the file */
    uint32_t bytes;     /* compressed, in the file */
    uint32_t raw_bytes; /* decompressed */
    uint32_t first;     /* index of its first sample in the shard */
    uint32_t samples;
    uint64_t hash; /* XXH64 of the compressed bytes */
};

struct shard {
    char *path;
    int fd;
    enum codec codec;
    uint64_t bytes;     /* of the file */
    uint64_t raw_bytes; /* of all blocks, decompressed */
    uint64_t samples;
    uint64_t hash; /* XXH64 of header and table, which the index also states */
    uint32_t blocks;
    struct shard_entry *table; /* (blocks) */
};

/* Opens a shard and checks its header and table. Errors: STATUS_IO if it cannot be read, STATUS_DATA if it is damaged,
 * STATUS_NOMEM. */
enum status shard_open(struct shard *shard, const char *path);

/* Opens shard number i of an index in `directory`. It is STATUS_DATA if the shard is not the one that the index
 * describes. */
enum status shard_open_listed(struct shard *shard, const char *directory, const struct index *index, int i);

/* Closes the file and frees the table. A zero-initialised shard is allowed. */
void shard_close(struct shard *shard);

/* Reads a block into reader->compressed and compares its hash. A block that does not match is read a second time from
 * storage. Errors: STATUS_IO; STATUS_DATA, with shard, block, offset and both hashes in the message; STATUS_NOMEM. */
enum status shard_check_block(const struct shard *shard, uint32_t block, struct block_reader *reader);

/* Asks the operating system to read a block ahead of its use. */
void shard_prefetch_block(const struct shard *shard, uint32_t block);

/* Opens the block in reader->compressed, whose hash has been compared, as *out. Labels must be below `classes`.
 * Errors: STATUS_DATA, STATUS_NOMEM. */
enum status shard_open_block(const struct shard *shard, uint32_t block, int classes, struct block_reader *reader,
                             struct block *out);

/* Does what shard_check_block and shard_open_block do. Several threads may read one shard, each with its own reader and
 * block. */
enum status shard_read_block(const struct shard *shard, uint32_t block, int classes, struct block_reader *reader,
                             struct block *out);

#endif
