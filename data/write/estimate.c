/* estimate.c - packs some runs of images in memory with each codec, exactly as pack.c does, and decodes random crops of
 * them as the loader does. */
#include "data/write/estimate.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/integer.h"
#include "base/memory.h"
#include "data/format/block.h"
#include "data/read/augment.h"
#include "data/write/pack_job.h"

enum { RUNS = 16, EPOCHS = 4, SIDE = 224 };

struct estimator {
    struct pack_source *source;
    struct pack_options options;
    struct pack_job *job;
    struct pack_worker worker;
    struct augmenter augmenter;
    struct block_reader reader;
    struct block block;
};

/* Decodes EPOCHS random crops of every sample of the block in reader.compressed. */
static enum status take_crops(struct estimator *e, const struct shard_frame *frame, enum codec codec)
{
    enum status status = STATUS_OK;
    struct block_info facts = {
        codec, frame->bytes, frame->raw_bytes, frame->samples, e->source->class_count, "estimate", 0
    };
    TRY(block_open(&e->block, &e->reader, &facts));
    for (int i = 0; i < e->block.count; i++) {
        const struct block_sample *s = &e->block.samples[i];
        for (int epoch = 0; epoch < EPOCHS; epoch++) {
            struct view view;
            struct augment_plan plan = augment_plan(&e->augmenter, s->width, s->height, epoch,
                                                    (uint64_t)(e->job->first + i));
            TRY(block_decode_box(&e->block, i, plan.input, 1, &e->reader, &view));
        }
    }
fail:
    return status;
}

static enum status crop_job(struct estimator *e, enum codec codec, struct estimate *out)
{
    enum status status = STATUS_OK;
    const uint8_t *data = e->job->frame_data;
    for (int i = 0; i < e->job->frame_count; data += e->job->frames[i++].bytes) {
        const struct shard_frame *frame = &e->job->frames[i];
        TRY(buffer_grow(&e->reader.compressed, &e->reader.compressed_capacity, frame->bytes));
        memcpy(e->reader.compressed, data, frame->bytes);
        double begin = clock_thread_seconds();
        TRY(take_crops(e, frame, codec));
        out->crop_s += (clock_thread_seconds() - begin) / EPOCHS;
    }
fail:
    return status;
}

/* Packs the job's samples and adds sizes and times to the sums in *out. */
static enum status measure(struct estimator *e, enum codec codec, struct estimate *out)
{
    enum status status = STATUS_OK;
    double begin = clock_thread_seconds();
    e->options.codec = codec;
    pack_job_process(e->job, e->source, &e->options, &e->worker);
    out->pack_s += clock_thread_seconds() - begin;
    if (e->job->job_error.code != STATUS_OK)
        return status_restore(&e->job->job_error);
    for (int i = 0; i < e->job->count; i++) {
        out->images += e->job->errors[i].code == STATUS_OK;
        out->bad += e->job->errors[i].code != STATUS_OK;
    }
    out->bytes += (double)e->job->frame_data_bytes + (double)e->job->frame_count * SHARD_ENTRY_BYTES;
    TRY(crop_job(e, codec, out));
fail:
    return status;
}

/* Measures jobs of the group that begins at `first`, until they have `images` images. */
static enum status measure_group(struct estimator *e, int64_t first, int64_t images, struct estimate estimates[2])
{
    enum status status = STATUS_OK;
    struct pack_job *job = e->job;
    int64_t end = first + PACK_GROUP < e->source->total ? first + PACK_GROUP : e->source->total;
    for (int64_t enough = first + images; first < end && first < enough; first += job->count) {
        job->first = first;
        job->count = pack_job_length(e->source, first, end);
        for (int i = 0; i < job->count && !e->source->parallel; i++)
            pack_job_read(job, i, e->source, &job->items[i]);
        TRY(measure(e, CODEC_RGBZ, &estimates[0]));
        if (e->source->is_files)
            TRY(measure(e, CODEC_JPEG, &estimates[1]));
    }
fail:
    return status;
}

/* Turns the sums into means. */
static void average(struct estimate *e, int64_t total)
{
    if (!e->images)
        return;
    double images = (double)e->images;
    e->bytes /= images;
    e->pack_s /= images;
    e->crop_s /= images;
    e->total = e->bytes * (double)total * images / (images + (double)e->bad);
}

enum status estimate_source(struct pack_source *source, const struct pack_options *options, int images,
                            struct estimate estimates[2])
{
    enum status status = STATUS_OK;
    static const double mean[3] = { 0.5, 0.5, 0.5 }, std[3] = { 0.25, 0.25, 0.25 };
    struct estimator e = { .source = source, .options = *options, .job = calloc(1, sizeof *e.job) };
    int64_t groups = ceil_div(source->total, PACK_GROUP), runs = groups < RUNS ? groups : RUNS;
    memset(estimates, 0, 2 * sizeof *estimates);
    if (!e.job)
        FAIL(STATUS_NOMEM, "out of memory");
    augmenter_init(&e.augmenter, AUGMENT_IMAGENET, true, SIDE, 1, mean, std);
    for (int64_t i = 0; i < runs; i++)
        TRY(measure_group(&e, groups * i / runs * PACK_GROUP, ceil_div(images, runs), estimates));
    if (!estimates[0].images)
        FAIL(STATUS_DATA, "none of %lld images can be read: %s", (long long)estimates[0].bad, e.job->errors[0].message);
    average(&estimates[0], source->total);
    average(&estimates[1], source->total);
fail:
    if (e.job)
        pack_job_finish(e.job);
    free(e.job);
    pack_worker_finish(&e.worker);
    block_reader_finish(&e.reader);
    block_finish(&e.block);
    return status;
}
