/* block_cache.h - decoded blocks kept in memory, so that random order over a small set decodes each block once.
 * Blocks go in until the budget is used up and stay; a set many times larger is not cached at all. */
#ifndef CSC_DATA_READ_BLOCK_CACHE_H
#define CSC_DATA_READ_BLOCK_CACHE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/block.h"
#include "data/read/dataset.h"

#define CACHE_BUDGET ((int64_t)512 << 20) /* bytes per loader */
#define CACHE_WORTH  4                    /* no cache if fewer than 1 / CACHE_WORTH of the set fits */

struct cache {
    int64_t blocks;
    _Atomic(struct block *) *slot; /* (blocks); NULL if the set is not cached */
    _Atomic(int64_t) left;         /* bytes of the budget */
    atomic_uchar *bad;             /* (blocks): enum bad of sample_reader.c */
};

enum status cache_init(struct cache *cache, const struct dataset *dataset);
void cache_finish(struct cache *cache);

/* The block if it is kept, else NULL. It stays until cache_finish. */
const struct block *cache_get(const struct cache *cache, int64_t number);

/* Offers a decoded block. If it is kept its buffers move and *block is empty; the kept block, or NULL. */
const struct block *cache_put(struct cache *cache, int64_t number, struct block *block);

#endif
