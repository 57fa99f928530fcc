/* loader_worker.c - samples one by one, through the worker's last block and the shared cache. */
#include "data/loader_worker.h"

#include "base/log.h"

enum { BAD_IN_A_ROW = 1000 }; /* blocks: beyond that the set is not worth training on */

void supplier_finish(struct supplier *w)
{
    block_reader_finish(&w->reader);
    augment_scratch_finish(&w->scratch);
    block_finish(&w->block);
}

static enum status get_block(struct supply *s, struct supplier *w, struct place place, const struct block **block)
{
    enum status status = STATUS_OK;
    *block = cache_get(&s->cache, place.number);
    if (!*block && w->last == place.number)
        *block = &w->block;
    if (*block)
        return STATUS_OK;
    w->last = -1;
    TRY(dataset_read_block(s->dataset, place, &w->reader, &w->block));
    *block = cache_put(&s->cache, place.number, &w->block);
    if (!*block) {
        *block = &w->block;
        w->last = place.number;
    }
fail:
    return status;
}

/* Marks a block as damaged and says so, once per loader. */
static void tell_bad(struct supply *s, int64_t number)
{
    if (!atomic_exchange(&s->cache.bad[number], 1))
        log_warn("%s; its samples are replaced by the next good ones", status_message());
    status_clear();
}

/* The block of the first good sample from *id on, in a circle; *place is that sample's. */
static enum status get_good_block(struct supply *s, struct supplier *w, uint64_t *id, struct place *place,
                                  const struct block **block)
{
    enum status status = STATUS_OK;
    uint64_t samples = (uint64_t)dataset_samples(s->dataset);
    for (int i = 0; i < BAD_IN_A_ROW && i < s->cache.blocks; i++) {
        *place = dataset_locate(s->dataset, (int64_t)*id);
        if (!atomic_load(&s->cache.bad[place->number])) {
            status = get_block(s, w, *place, block);
            if (status != STATUS_DATA || !s->skip_bad)
                return status;
            tell_bad(s, place->number);
        }
        uint32_t left = s->dataset->shards[place->shard].table[place->block].samples - (uint32_t)place->sample;
        *id = (*id + left) % samples;
    }
    FAIL(STATUS_DATA, "%s: too many damaged blocks in a row to go on", s->dataset->directory);
fail:
    return status;
}

enum status supply_sample(struct supply *s, struct supplier *w, int64_t epoch, uint64_t *id, float *out,
                          int32_t *label, bool *skipped)
{
    enum status status = STATUS_OK;
    uint64_t wanted = *id;
    struct place place;
    const struct block *block;
    TRY(get_good_block(s, w, id, &place, &block));
    const struct block_sample *sample = &block->samples[place.sample];
    struct view view;
    TRY(block_window(block, place.sample, (struct box){ 0, 0, sample->width, sample->height }, &w->reader, &view));
    TRY(augment_sample(&s->augmenter, &w->scratch, view, epoch, wanted, out));
    *label = sample->label;
    *skipped = *id != wanted;
fail:
    return status;
}
