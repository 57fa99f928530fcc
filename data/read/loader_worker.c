/* loader_worker.c - samples one by one, through the worker's last block and the shared cache. */
#include "data/read/loader_worker.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    BAD_IN_A_ROW = 1000, /* beyond that the set is not worth training on */
    SMOOTHING = 16,      /* blocks */
};
#define SLOW_READ 100e-6 /* seconds per block; from memory it is some 30 */

enum bad { BAD_NOT, BAD_BLOCK, BAD_SAMPLE }; /* cache.bad: the block is damaged; it is sound, but not all its samples */

void supplier_finish(struct supplier *w)
{
    block_reader_finish(&w->reader);
    augment_scratch_finish(&w->scratch);
    block_finish(&w->block);
}

/* Reads a block into w->block; its time is reading and, for what is decompressed at once, decoding. */
static enum status read_block(struct supply *s, struct supplier *w, struct place place)
{
    struct block_reader *r = &w->reader;
    double began = clock_seconds(), read_s = r->read_s;
    int64_t bytes = r->read_bytes, rereads = r->rereads;
    enum status status = dataset_read_block(s->dataset, place, r, &w->block);
    read_s = r->read_s - read_s;
    w->read_s += (read_s - w->read_s) / SMOOTHING;
    w->work.read_s += read_s;
    w->work.decode_s += clock_seconds() - began - read_s;
    w->work.read_bytes += r->read_bytes - bytes;
    w->work.rereads += r->rereads - rereads;
    w->work.blocks++;
    return status;
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
    TRY(read_block(s, w, place));
    *block = cache_put(&s->cache, place.number, &w->block);
    if (!*block) {
        *block = &w->block;
        w->last = place.number;
    }
fail:
    return status;
}

void supply_advise(const struct supply *s, const struct supplier *w, uint64_t id)
{
    struct place place = dataset_locate(s->dataset, (int64_t)id);
    if (w->read_s > SLOW_READ && !cache_get(&s->cache, place.number))
        shard_advise(&s->dataset->shards[place.shard], place.block);
}

/* Says that a block, or a sample in a sound block, is not taken; once per block and loader. */
static void tell_bad(struct supply *s, int64_t number, enum bad bad)
{
    unsigned char before = BAD_NOT;
    if (atomic_compare_exchange_strong(&s->cache.bad[number], &before, (unsigned char)bad))
        log_warn("%s; %s", status_message(),
                 s->augmenter.training ? "the next good sample takes its place" : "what is damaged is left out");
    status_clear();
}

/* The block of the first sample from *id on, in a circle, that lies in a sound one; *place is that sample's. */
static enum status get_good_block(struct supply *s, struct supplier *w, uint64_t *id, struct place *place,
                                  const struct block **block)
{
    enum status status = STATUS_OK;
    uint64_t samples = (uint64_t)dataset_samples(s->dataset);
    for (int i = 0; i < BAD_IN_A_ROW && i < s->cache.blocks; i++) {
        *place = dataset_locate(s->dataset, (int64_t)*id);
        if (atomic_load(&s->cache.bad[place->number]) != BAD_BLOCK) {
            status = get_block(s, w, *place, block);
            if (status != STATUS_DATA || !s->skip_bad)
                return status;
            tell_bad(s, place->number, BAD_BLOCK);
        }
        uint32_t left = s->dataset->shards[place->shard].table[place->block].samples - (uint32_t)place->sample;
        *id = (*id + left) % samples;
    }
    FAIL(STATUS_DATA, "%s: too many damaged blocks in a row to go on", s->dataset->directory);
fail:
    return status;
}

/* The largest power of two by which a crop can be decoded smaller and still be no smaller than what it becomes. */
static int choose_shrink(const struct supply *s, const struct augment_plan *p)
{
    int shrink = 1;
    if (!s->scaled_jpeg || !s->augmenter.training || s->augmenter.kind != AUGMENT_IMAGENET)
        return 1;
    while (shrink < 8 && p->crop.width / (2 * shrink) >= p->resize.width &&
           p->crop.height / (2 * shrink) >= p->resize.height)
        shrink *= 2;
    return shrink;
}

/* Sample number place.sample of the block, as drawn for `wanted`. */
static enum status make_sample(struct supply *s, struct supplier *w, const struct block *block, int number,
                               int64_t epoch, uint64_t wanted, void *out)
{
    enum status status = STATUS_OK;
    const struct block_sample *sample = &block->samples[number];
    struct augment_plan plan = augment_plan(&s->augmenter, sample->width, sample->height, epoch, wanted);
    struct view view;
    double began = clock_seconds();
    TRY(block_window(block, number, plan.need, choose_shrink(s, &plan), &w->reader, &view));
    double decoded = clock_seconds();
    TRY(augment_begin(&s->augmenter, &w->scratch, &plan, view));
    double resized = clock_seconds();
    TRY(augment_end(&s->augmenter, &w->scratch, &plan, out));
    w->work.decode_s += decoded - began;
    w->work.resize_s += resized - decoded;
    w->work.copy_s += clock_seconds() - resized;
fail:
    return status;
}

static int32_t label_of(const struct supply *s, const struct block *block, int number)
{
    int label = block->samples[number].label;
    return s->label_map ? s->label_map[label] : label;
}

/* For an evaluation: this sample or none. */
static enum status supply_this(struct supply *s, struct supplier *w, uint64_t id, void *out, int32_t *label)
{
    enum status status = STATUS_OK;
    struct place place = dataset_locate(s->dataset, (int64_t)id);
    const struct block *block = NULL;
    *label = LABEL_MISSING;
    w->work.skipped++; /* until it is there */
    if (atomic_load(&s->cache.bad[place.number]) == BAD_BLOCK)
        return STATUS_OK;
    status = get_block(s, w, place, &block);
    if (status == STATUS_OK)
        status = make_sample(s, w, block, place.sample, 0, id, out);
    if (status == STATUS_DATA && s->skip_bad) {
        tell_bad(s, place.number, block ? BAD_SAMPLE : BAD_BLOCK);
        return STATUS_OK;
    }
    TRY(status);
    *label = label_of(s, block, place.sample);
    w->work.samples++;
    w->work.skipped--;
fail:
    return status;
}

enum status supply_sample(struct supply *s, struct supplier *w, int64_t epoch, uint64_t *id, void *out, int32_t *label)
{
    enum status status = STATUS_OK;
    uint64_t wanted = *id;
    struct place place;
    const struct block *block;
    if (!s->augmenter.training)
        return supply_this(s, w, *id, out, label);
    for (int i = 0; i < BAD_IN_A_ROW; i++) {
        TRY(get_good_block(s, w, id, &place, &block));
        status = make_sample(s, w, block, place.sample, epoch, wanted, out);
        if (status == STATUS_OK) {
            *label = label_of(s, block, place.sample);
            w->work.samples++;
            w->work.skipped += *id != wanted;
        }
        if (status != STATUS_DATA || !s->skip_bad)
            return status;
        tell_bad(s, place.number, BAD_SAMPLE);
        *id = (*id + 1) % (uint64_t)dataset_samples(s->dataset);
    }
    FAIL(STATUS_DATA, "%s: too many damaged samples in a row to go on", s->dataset->directory);
fail:
    return status;
}
