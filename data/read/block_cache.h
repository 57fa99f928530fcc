/* block_cache.h - keeps opened blocks in memory, so that a small dataset is decompressed only once.
 * Blocks are added until the memory is used up, and none is ever removed. A dataset that is much larger than the memory
 * is not cached at all. */
#ifndef CSC_DATA_READ_BLOCK_CACHE_H
#define CSC_DATA_READ_BLOCK_CACHE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/block.h"
#include "data/read/dataset.h"

/* The memory of one loader's cache. A dataset of more than BLOCK_CACHE_MAX_RATIO times as many bytes is not cached. */
#define BLOCK_CACHE_BYTES     ((int64_t)512 << 20)
#define BLOCK_CACHE_MAX_RATIO 4

/* What is known of a block. */
enum damage {
    DAMAGE_NONE,
    DAMAGED_BLOCK,  /* it cannot be opened, and is not read again */
    DAMAGED_SAMPLE, /* it can be opened, but at least one of its samples cannot be decoded */
};

struct block_cache {
    int64_t blocks;                 /* of the dataset */
    _Atomic(struct block *) *slots; /* (blocks); NULL if the dataset is not cached */
    _Atomic(int64_t) bytes_left;    /* of BLOCK_CACHE_BYTES */
    atomic_uchar *damage;           /* (blocks): enum damage */
};

/* Errors: STATUS_NOMEM. */
enum status block_cache_init(struct block_cache *cache, const struct dataset *dataset);
void block_cache_finish(struct block_cache *cache);

/* The block with this index in the dataset, or NULL if it is not cached. It stays valid until block_cache_finish. */
const struct block *block_cache_get(const struct block_cache *cache, int64_t index);

/* Offers an opened block. If the cache accepts it, *block becomes empty. Returns the cached block, which another thread
 * may have added before, or NULL. Any thread may call this and block_cache_get. */
const struct block *block_cache_put(struct block_cache *cache, int64_t index, struct block *block);

#endif
