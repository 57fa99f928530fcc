/* verify.c - reads every block of every shard. */
#include "data/verify.h"

#include <stdlib.h>

#include "base/log.h"
#include "data/dataset_internal.h"
#include "data/pack_progress.h"

enum { WARNINGS = 20 };

/* Adds a decoded block's samples to the counts; image sizes must be what the index says. */
static enum status count_block(const struct dataset *d, const struct shard *shard, uint32_t number,
                               const struct block *block, struct block_reader *reader, int64_t *counts)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < block->count; i++) {
        const struct block_sample *s = &block->samples[i];
        struct view view;
        counts[s->label]++;
        TRY(block_window(block, i, (struct box){ 0, 0, s->width, s->height }, 1, reader, &view));
        if (d->index.width && (s->width != d->index.width || s->height != d->index.height))
            FAIL(STATUS_DATA, "%s: block %u: an image of %d x %d, but the index says that all have %d x %d", shard->path,
                 number, s->width, s->height, d->index.width, d->index.height);
    }
fail:
    return status;
}

static enum status verify_block(const struct dataset *d, const struct shard *shard, uint32_t number, bool deep,
                                struct block_reader *reader, struct block *block, int64_t *counts)
{
    enum status status = STATUS_OK;
    if (!deep)
        return shard_check_block(shard, number, reader);
    TRY(shard_read_block(shard, number, d->index.classes, reader, block));
    TRY(count_block(d, shard, number, block, reader, counts));
fail:
    return status;
}

enum status dataset_verify(const struct dataset *d, bool deep, struct verify_report *report)
{
    enum status status = STATUS_OK;
    struct block_reader reader = { 0 };
    struct block block = { 0 };
    struct pack_progress progress = { 0 };
    int64_t samples = 0;
    int64_t *counts = calloc((size_t)d->index.classes, sizeof *counts);
    *report = (struct verify_report){ 0 };
    if (!counts)
        FAIL(STATUS_NOMEM, "%s: out of memory", d->directory);
    pack_progress_start(&progress, d->directory, d->index.samples);
    for (int s = 0; s < d->index.shards; s++) {
        const struct shard *shard = &d->shards[s];
        for (uint32_t b = 0; b < shard->blocks; b++) {
            status = verify_block(d, shard, b, deep, &reader, &block, counts);
            if (status != STATUS_OK && status != STATUS_DATA)
                goto fail;
            if (status == STATUS_DATA && ++report->damaged <= WARNINGS)
                log_warn("%s", status_message());
            report->blocks++;
            report->bytes += shard->table[b].bytes;
            samples += shard->table[b].samples;
            pack_progress_step(&progress, samples, report->bytes);
        }
    }
    if (report->damaged)
        FAIL(STATUS_DATA, "%s: %lld of %lld blocks are damaged", d->directory, (long long)report->damaged,
             (long long)report->blocks);
    for (int c = 0; deep && c < d->index.classes; c++)
        if (counts[c] != d->index.counts[c])
            FAIL(STATUS_DATA, "%s: class %d has %lld samples, but the index says %lld", d->directory, c,
                 (long long)counts[c], (long long)d->index.counts[c]);
    status = STATUS_OK;
fail:
    report->seconds = pack_progress_end(&progress);
    free(counts);
    block_reader_finish(&reader);
    block_finish(&block);
    return status;
}
