/* block_cache.h - decoded blocks kept in memory, so that random order over a small set decodes each block once.
 * Blocks go in until the budget is used up and stay; a set many times larger is not cached at all. */
#ifndef CSC_DATA_READ_BLOCK_CACHE_H
#define CSC_DATA_READ_BLOCK_CACHE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/block.h"
#include "data/read/dataset.h"

#define BLOCK_CACHE_BYTES     ((int64_t)512 << 20) /* bytes per loader */
#define BLOCK_CACHE_MAX_RATIO 4 /* no cache if fewer than 1 / BLOCK_CACHE_MAX_RATIO of the set fits */

struct block_cache {
    int64_t blocks;
    _Atomic(struct block *) *slots; /* (blocks); NULL if the set is not cached */
    _Atomic(int64_t) bytes_left;    /* bytes of the budget */
    atomic_uchar *damage;           /* (blocks): enum bad of sample_reader.c */
};

enum status block_cache_init(struct block_cache *cache, const struct dataset *dataset);
void block_cache_finish(struct block_cache *cache);

/* The block if it is kept, else NULL. It stays until block_cache_finish. */
const struct block *block_cache_get(const struct block_cache *cache, int64_t index);

/* Offers a decoded block. If it is kept its buffers move and *block is empty; the kept block, or NULL. */
const struct block *block_cache_put(struct block_cache *cache, int64_t index, struct block *block);

#endif
