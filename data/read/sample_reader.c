/* sample_reader.c - takes a sample's block from the shared cache, from the worker's last block, or from storage. */
#include "data/read/sample_reader.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    MAX_DAMAGED_IN_A_ROW = 1000, /* blocks or samples; after so many the dataset is given up */
    SMOOTHING = 16,              /* blocks over which read_s is smoothed */
};
#define SLOW_READ 100e-6 /* seconds a block; a read from the page cache takes about 30e-6 */

void sample_scratch_finish(struct sample_scratch *scratch)
{
    block_reader_finish(&scratch->block_reader);
    augment_scratch_finish(&scratch->augment);
    block_finish(&scratch->block);
}

/* Reads a block into scratch->block and counts the time, of which decompression is decoding. */
static enum status read_block(struct sample_reader *reader, struct sample_scratch *scratch,
                              struct sample_location location)
{
    struct block_reader *r = &scratch->block_reader;
    double began = clock_seconds(), read_s = r->read_s;
    int64_t bytes = r->read_bytes, rereads = r->rereads;
    enum status status = dataset_read_block(reader->dataset, location, r, &scratch->block);
    read_s = r->read_s - read_s;
    scratch->read_s += (read_s - scratch->read_s) / SMOOTHING;
    scratch->work.read_s += read_s;
    scratch->work.decode_s += clock_seconds() - began - read_s;
    scratch->work.read_bytes += r->read_bytes - bytes;
    scratch->work.rereads += r->rereads - rereads;
    scratch->work.blocks++;
    return status;
}

static enum status get_block(struct sample_reader *reader, struct sample_scratch *scratch,
                             struct sample_location location, const struct block **block)
{
    enum status status = STATUS_OK;
    *block = block_cache_get(&reader->cache, location.block_index);
    if (!*block && scratch->block_index == location.block_index)
        *block = &scratch->block;
    if (*block)
        return STATUS_OK;
    scratch->block_index = -1;
    TRY(read_block(reader, scratch, location));
    *block = block_cache_put(&reader->cache, location.block_index, &scratch->block);
    if (!*block) {
        *block = &scratch->block;
        scratch->block_index = location.block_index;
    }
fail:
    return status;
}

void sample_reader_prefetch(const struct sample_reader *reader, const struct sample_scratch *scratch, uint64_t id)
{
    struct sample_location location = dataset_locate(reader->dataset, (int64_t)id);
    if (scratch->read_s > SLOW_READ && !block_cache_get(&reader->cache, location.block_index))
        shard_prefetch_block(&reader->dataset->shards[location.shard], location.block);
}

/* Warns that a block, or a sample in an intact block, is not used. Warns once for each block and loader. */
static void warn_damaged(struct sample_reader *reader, int64_t block_index, enum damage damage)
{
    unsigned char before = DAMAGE_NONE;
    if (atomic_compare_exchange_strong(&reader->cache.damage[block_index], &before, (unsigned char)damage))
        log_warn("%s; %s", status_message(),
                 reader->augmenter.training ? "the next good sample takes its place" : "what is damaged is left out");
    status_clear();
}

/* The largest power of two by which the crop can be decoded smaller without becoming smaller than the output. */
static int choose_shrink(const struct sample_reader *reader, const struct augment_plan *p)
{
    int shrink = 1;
    if (!reader->scaled_jpeg || !reader->augmenter.training || reader->augmenter.kind != AUGMENT_IMAGENET)
        return 1;
    while (shrink < 8 && p->crop.width / (2 * shrink) >= p->resize.width &&
           p->crop.height / (2 * shrink) >= p->resize.height)
        shrink *= 2;
    return shrink;
}

/* Decodes and augments a sample of a block, with the random draws of sample drawn_for. */
static enum status make_sample(struct sample_reader *reader, struct sample_scratch *scratch, const struct block *block,
                               int sample_index, int64_t epoch, uint64_t drawn_for, void *out)
{
    enum status status = STATUS_OK;
    const struct block_sample *sample = &block->samples[sample_index];
    struct augment_plan plan = augment_plan(&reader->augmenter, sample->width, sample->height, epoch, drawn_for);
    struct view view;
    double began = clock_seconds();
    TRY(block_decode_box(block, sample_index, plan.input, choose_shrink(reader, &plan), &scratch->block_reader, &view));
    double decoded = clock_seconds();
    TRY(augment_begin(&reader->augmenter, &scratch->augment, &plan, view));
    double resized = clock_seconds();
    TRY(augment_end(&reader->augmenter, &scratch->augment, &plan, out));
    scratch->work.decode_s += decoded - began;
    scratch->work.resize_s += resized - decoded;
    scratch->work.copy_s += clock_seconds() - resized;
fail:
    return status;
}

/* Makes a sample, with the random draws of sample `drawn_for`. If it is damaged and may be skipped, it warns, and
 * *damage is not DAMAGE_NONE. */
static enum status try_sample(struct sample_reader *reader, struct sample_scratch *scratch,
                              struct sample_location location, int64_t epoch, uint64_t drawn_for, void *out,
                              int32_t *label, enum damage *damage)
{
    const struct block *block;
    *damage = DAMAGED_BLOCK;
    if (atomic_load(&reader->cache.damage[location.block_index]) == DAMAGED_BLOCK)
        return STATUS_OK;
    enum status status = get_block(reader, scratch, location, &block);
    if (status == STATUS_OK) {
        *damage = DAMAGED_SAMPLE;
        status = make_sample(reader, scratch, block, location.sample, epoch, drawn_for, out);
    }
    if (status == STATUS_OK) {
        *damage = DAMAGE_NONE;
        *label = block->samples[location.sample].label;
        if (reader->label_map)
            *label = reader->label_map[*label];
    } else if (status == STATUS_DATA && reader->skip_bad) {
        warn_damaged(reader, location.block_index, *damage);
        status = STATUS_OK;
    }
    return status;
}

enum status sample_reader_read(struct sample_reader *reader, struct sample_scratch *scratch, int64_t epoch,
                               uint64_t *id, void *out, int32_t *label)
{
    enum status status = STATUS_OK;
    const struct dataset *d = reader->dataset;
    uint64_t drawn_for = *id;
    *label = LABEL_MISSING;
    for (int i = 0; i < MAX_DAMAGED_IN_A_ROW; i++) {
        struct sample_location at = dataset_locate(d, (int64_t)*id);
        enum damage damage;
        TRY(try_sample(reader, scratch, at, epoch, drawn_for, out, label, &damage));
        if (damage == DAMAGE_NONE || !reader->augmenter.training) {
            scratch->work.samples += damage == DAMAGE_NONE;
            scratch->work.skipped += damage != DAMAGE_NONE || *id != drawn_for;
            return STATUS_OK;
        }
        uint32_t left = d->shards[at.shard].table[at.block].samples - (uint32_t)at.sample; /* in the block */
        *id = (*id + (damage == DAMAGED_BLOCK ? left : 1)) % (uint64_t)dataset_samples(d);
    }
    FAIL(STATUS_DATA, "%s: too many damaged blocks or samples in a row to go on", d->directory);
fail:
    return status;
}
