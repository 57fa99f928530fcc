/* block_cache.c - has one atomic pointer for each block. The first thread that opens a block publishes it. */
#include "data/read/block_cache.h"

#include <stdlib.h>

#include "data/read/dataset_internal.h"

enum status block_cache_init(struct block_cache *c, const struct dataset *dataset)
{
    enum status status = STATUS_OK;
    *c = (struct block_cache){ .blocks = dataset_blocks(dataset) };
    c->damage = calloc((size_t)c->blocks, sizeof *c->damage);
    if (!c->damage)
        FAIL(STATUS_NOMEM, "out of memory for %lld blocks", (long long)c->blocks);
    atomic_init(&c->bytes_left, BLOCK_CACHE_BYTES);
    if (dataset->raw_bytes / BLOCK_CACHE_MAX_RATIO > (uint64_t)BLOCK_CACHE_BYTES)
        return STATUS_OK;
    c->slots = calloc((size_t)c->blocks, sizeof *c->slots);
    if (!c->slots)
        FAIL(STATUS_NOMEM, "out of memory for %lld blocks", (long long)c->blocks);
fail:
    return status;
}

void block_cache_finish(struct block_cache *c)
{
    for (int64_t i = 0; c->slots && i < c->blocks; i++) {
        struct block *block = atomic_load_explicit(&c->slots[i], memory_order_relaxed);
        if (block)
            block_finish(block);
        free(block);
    }
    free(c->slots);
    free(c->damage);
    *c = (struct block_cache){ 0 };
}

const struct block *block_cache_get(const struct block_cache *c, int64_t index)
{
    return c->slots ? atomic_load_explicit(&c->slots[index], memory_order_acquire) : NULL;
}

const struct block *block_cache_put(struct block_cache *c, int64_t index, struct block *block)
{
    int64_t bytes = (int64_t)(sizeof *block + block->samples_capacity + block->data_capacity + block->frames_capacity);
    if (!c->slots)
        return NULL;
    struct block *kept = malloc(sizeof *kept);
    if (!kept || atomic_fetch_sub(&c->bytes_left, bytes) < bytes) {
        if (kept)
            atomic_fetch_add(&c->bytes_left, bytes);
        free(kept);
        return NULL;
    }
    *kept = *block;
    struct block *found = NULL;
    if (!atomic_compare_exchange_strong_explicit(&c->slots[index], &found, kept, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        atomic_fetch_add(&c->bytes_left, bytes); /* another thread was faster; the caller keeps *block */
        free(kept);
        return found;
    }
    *block = (struct block){ 0 };
    return kept;
}
