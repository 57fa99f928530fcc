/* block_cache.c - one atomic pointer per block; the first thread to decode a block publishes it. */
#include "data/read/block_cache.h"

#include <stdlib.h>

#include "data/read/dataset_internal.h"

enum status cache_init(struct cache *c, const struct dataset *dataset)
{
    enum status status = STATUS_OK;
    *c = (struct cache){ .blocks = dataset_blocks(dataset) };
    c->bad = calloc((size_t)c->blocks, sizeof *c->bad);
    if (!c->bad)
        FAIL(STATUS_NOMEM, "out of memory for %lld blocks", (long long)c->blocks);
    atomic_init(&c->left, CACHE_BUDGET);
    if (dataset->raw_bytes / CACHE_WORTH > (uint64_t)CACHE_BUDGET)
        return STATUS_OK;
    c->slot = calloc((size_t)c->blocks, sizeof *c->slot);
    if (!c->slot)
        FAIL(STATUS_NOMEM, "out of memory for %lld blocks", (long long)c->blocks);
fail:
    return status;
}

void cache_finish(struct cache *c)
{
    for (int64_t i = 0; c->slot && i < c->blocks; i++) {
        struct block *block = atomic_load_explicit(&c->slot[i], memory_order_relaxed);
        if (block)
            block_finish(block);
        free(block);
    }
    free(c->slot);
    free(c->bad);
    *c = (struct cache){ 0 };
}

const struct block *cache_get(const struct cache *c, int64_t number)
{
    return c->slot ? atomic_load_explicit(&c->slot[number], memory_order_acquire) : NULL;
}

const struct block *cache_put(struct cache *c, int64_t number, struct block *block)
{
    int64_t bytes = (int64_t)(sizeof *block + block->samples_capacity + block->data_capacity + block->frames_capacity);
    if (!c->slot)
        return NULL;
    struct block *kept = malloc(sizeof *kept);
    if (!kept || atomic_fetch_sub(&c->left, bytes) < bytes) {
        if (kept)
            atomic_fetch_add(&c->left, bytes);
        free(kept);
        return NULL;
    }
    *kept = *block;
    struct block *before = NULL;
    if (!atomic_compare_exchange_strong_explicit(&c->slot[number], &before, kept, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        atomic_fetch_add(&c->left, bytes); /* another thread was faster; *block stays the caller's */
        free(kept);
        return before;
    }
    *block = (struct block){ 0 };
    return kept;
}
