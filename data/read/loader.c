/* loader.c - a ring of micro-batches that worker threads fill ahead, a few samples at a time.
 * The micro-batches of this rank are numbered 0, 1, ... from the last seek. Micro-batch k lies in slots[k %
 * slot_count]. The caller holds micro-batch next - 1, and workers fill next .. next + prefetch - 1. What a micro-batch
 * holds depends on its position only, so ranks, workers and seeks do not change it. */
#include "data/read/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/clock.h"
#include "base/integer.h"
#include "base/pixels.h"
#include "base/thread.h"
#include "data/read/sample_reader.h"

/* Samples that a worker takes at a time: of images up to SMALL_IMAGE pixels, and of larger ones. */
enum { CHUNK_SMALL = 16, CHUNK_LARGE = 4, SMALL_IMAGE = 64 };
enum { PAGE_BYTES = 4096, CACHE_LINE = 64 };

struct slot {
    struct micro_batch batch;
    struct order order;
    void *images; /* floats, or raw as described in loader.h */
    int32_t *labels;
    uint64_t *ids;
    int64_t sequence;     /* number of the micro-batch from the last seek */
    int64_t position;     /* position of its first sample in the epoch */
    int assigned, filled; /* samples that workers have taken, and that they have finished */
    struct loader_work work;
    int first_failed; /* the first sample that failed; -1: none */
    struct status_record failure;
};

struct loader {
    struct loader_config config;
    struct sample_reader reader;
    struct pixel_scale scale;
    int64_t samples, steps_per_epoch; /* samples of the dataset */
    int local_micro_batches;          /* of this rank in a step, in training */
    int64_t evaluation_batches;       /* of this rank, in evaluation */
    int chunk;

    pthread_mutex_t mutex; /* guards all members below, but not the samples that workers write into slots */
    pthread_cond_t work_ready, progress;
    struct slot *slots;
    int slot_count;
    int64_t first_position; /* of the last seek, in micro-batches of this rank */
    int64_t next, begun;    /* micro-batches: the next to return, and the next to begin */
    bool consumer_holds;    /* the caller holds micro-batch next - 1 */
    bool paused, stop;
    int busy_workers; /* workers that are filling a chunk */
    struct threads workers;
    struct loader_stats stats;
};

/* Describes micro-batch `at` of this rank, counted from the first of epoch 0 or of the evaluation. Returns the position
 * of its first sample. */
static int64_t describe_micro_batch(const struct loader *l, int64_t at, struct micro_batch *b)
{
    const struct loader_config *c = &l->config;
    *b = (struct micro_batch){ .count = c->micro_batch };
    if (!c->training) {
        b->index = (int)(c->rank + at * c->ranks);
        int64_t position = (int64_t)b->index * c->micro_batch;
        if (l->samples - position < c->micro_batch)
            b->count = (int)(l->samples - position);
        return position;
    }
    int64_t step = at / l->local_micro_batches;
    b->epoch = step / l->steps_per_epoch;
    b->step = step % l->steps_per_epoch;
    b->index = (int)(at % l->local_micro_batches) + c->rank * l->local_micro_batches;
    return b->step * c->batch + (int64_t)b->index * c->micro_batch;
}

static void begin_order(const struct loader *l, int64_t epoch, struct order *order)
{
    const struct loader_config *c = &l->config;
    order_init(order, c->training ? c->shuffle : SHUFFLE_NONE, (uint64_t)l->samples, (uint64_t)c->window, c->seed,
               epoch);
}

/* Offset of the pixels in a raw micro-batch. */
static size_t raw_header_bytes(const struct loader_config *c)
{
    return round_up((size_t)c->micro_batch * sizeof(struct image_crop), CACHE_LINE);
}

static size_t image_values(const struct loader_config *c)
{
    return (size_t)c->image_size * c->image_size * 3;
}

/* Describes a raw micro-batch. The images are resized and mirrored already, so each crop is a whole square. */
static void begin_raw(const struct loader *l, struct slot *slot)
{
    struct image_crop *crops = slot->images;
    int size = l->config.image_size;
    for (int i = 0; i < slot->batch.count; i++)
        crops[i] = (struct image_crop){
            raw_header_bytes(&l->config) + i * image_values(&l->config), size, size, 0, 0, size, size, false
        };
    slot->batch.scale = &l->scale;
    slot->batch.raw = slot->images;
    slot->batch.raw_bytes = raw_header_bytes(&l->config) + slot->batch.count * image_values(&l->config);
}

static void *image_memory(const struct loader *l, const struct slot *slot, int i)
{
    size_t at = i * image_values(&l->config);
    return l->config.raw ? (void *)((uint8_t *)slot->images + raw_header_bytes(&l->config) + at)
                         : (float *)slot->images + at;
}

/* Describes micro-batch `sequence` and prepares its slot. */
static void begin_slot(struct loader *l, int64_t sequence)
{
    struct slot *slot = &l->slots[sequence % l->slot_count];
    struct micro_batch *b = &slot->batch;
    slot->sequence = sequence;
    slot->position = describe_micro_batch(l, l->first_position + sequence, b);
    b->images = l->config.raw ? NULL : slot->images;
    if (l->config.raw)
        begin_raw(l, slot);
    b->labels = slot->labels;
    b->ids = slot->ids;
    begin_order(l, b->epoch, &slot->order);
    slot->assigned = slot->filled = 0;
    slot->work = (struct loader_work){ 0 };
    slot->first_failed = -1;
}

/* Finds a slot with samples that no worker has taken, beginning a new one if one is free. NULL: there is none. */
static struct slot *find_work(struct loader *l)
{
    for (int64_t n = l->next; n < l->begun; n++) {
        struct slot *slot = &l->slots[n % l->slot_count];
        if (slot->assigned < slot->batch.count)
            return slot;
    }
    int64_t oldest = l->next - l->consumer_holds;
    bool more = l->config.training || l->first_position + l->begun < l->evaluation_batches;
    if (!more || l->begun - oldest >= l->slot_count)
        return NULL;
    begin_slot(l, l->begun);
    return &l->slots[l->begun++ % l->slot_count];
}

/* Prefetches the same samples of micro-batch `at`, the next one in this slot. */
static void prefetch_chunk(const struct loader *l, const struct sample_scratch *scratch, int64_t at, int from,
                           int count)
{
    struct micro_batch b;
    struct order order;
    if (!l->config.training && at >= l->evaluation_batches)
        return;
    int64_t position = describe_micro_batch(l, at, &b);
    begin_order(l, b.epoch, &order);
    for (int i = from; i < from + count && i < b.count; i++)
        sample_reader_prefetch(&l->reader, scratch, order_at(&order, (uint64_t)(position + i)));
}

/* Fills samples [from, from + count) of a slot. The caller does not hold the mutex. If it fails, *failed_at is the
 * sample. */
static enum status fill_chunk(struct loader *l, struct sample_scratch *scratch, struct slot *slot, int64_t at, int from,
                              int count, int *failed_at)
{
    enum status status = STATUS_OK;
    prefetch_chunk(l, scratch, at + l->slot_count, from, count);
    for (int i = from; i < from + count; i++) {
        *failed_at = i;
        slot->ids[i] = order_at(&slot->order, (uint64_t)(slot->position + i));
        TRY(sample_reader_read(&l->reader, scratch, slot->batch.epoch, &slot->ids[i], image_memory(l, slot, i),
                               &slot->labels[i]));
    }
fail:
    return status;
}

static void add_work(struct loader_work *to, const struct loader_work *w)
{
    to->read_s += w->read_s;
    to->decode_s += w->decode_s;
    to->resize_s += w->resize_s;
    to->copy_s += w->copy_s;
    to->read_bytes += w->read_bytes;
    to->blocks += w->blocks;
    to->samples += w->samples;
    to->skipped += w->skipped;
    to->rereads += w->rereads;
}

static void *worker_main(void *context)
{
    struct loader *l = context;
    struct sample_scratch scratch = { .block_index = -1 };
    pthread_setname_np(pthread_self(), "csc-loader");
    affinity_unbind_thread();
    pthread_mutex_lock(&l->mutex);
    while (!l->stop) {
        struct slot *slot = l->paused ? NULL : find_work(l);
        if (!slot) {
            pthread_cond_wait(&l->work_ready, &l->mutex);
            continue;
        }
        int from = slot->assigned, failed_at, count = min_int(slot->batch.count - from, l->chunk);
        int64_t at = l->first_position + slot->sequence;
        slot->assigned += count;
        l->busy_workers++;
        pthread_mutex_unlock(&l->mutex);
        scratch.work = (struct loader_work){ 0 };
        enum status status = fill_chunk(l, &scratch, slot, at, from, count, &failed_at);
        pthread_mutex_lock(&l->mutex);
        if (status != STATUS_OK && (slot->first_failed < 0 || failed_at < slot->first_failed)) {
            slot->first_failed = failed_at;
            status_save(&slot->failure);
        }
        add_work(&slot->work, &scratch.work);
        slot->filled += count;
        l->busy_workers--;
        if (slot->filled == slot->batch.count || l->paused)
            pthread_cond_broadcast(&l->progress);
    }
    pthread_mutex_unlock(&l->mutex);
    sample_scratch_finish(&scratch);
    return NULL;
}

static enum status check_config(const struct loader_config *c)
{
    enum status status = STATUS_OK;
    if (c->micro_batch < 1 || c->workers < 1 || c->prefetch < 1 || c->ranks < 1 || c->rank < 0 || c->rank >= c->ranks)
        FAIL(STATUS_USAGE, "loader: micro-batch %d, workers %d, prefetch %d, rank %d of %d", c->micro_batch, c->workers,
             c->prefetch, c->rank, c->ranks);
    if (c->image_size < 1 || c->image_size > 8192)
        FAIL(STATUS_USAGE, "image size %d: not between 1 and 8192", c->image_size);
    for (int i = 0; i < 3; i++)
        if (!(c->std[i] > 0))
            FAIL(STATUS_USAGE, "standard deviation %g of channel %d: must be above 0", c->std[i], i);
    if (!c->training)
        return STATUS_OK;
    if (c->batch < 1 || c->batch % c->micro_batch || c->batch / c->micro_batch % c->ranks)
        FAIL(STATUS_USAGE, "batch %d cannot be divided into micro-batches of %d and these evenly among %d ranks",
             c->batch, c->micro_batch, c->ranks);
    if (dataset_samples(c->dataset) < c->batch)
        FAIL(STATUS_USAGE, "%s: %lld images are fewer than one batch of %d", c->dataset->directory,
             (long long)dataset_samples(c->dataset), c->batch);
    if (c->shuffle == SHUFFLE_WINDOW && c->window < 1)
        FAIL(STATUS_USAGE, "window of %lld samples: must be at least 1", (long long)c->window);
fail:
    return status;
}

/* Bytes of a slot's images, in whole pages, so that a device can register them. */
static size_t slot_bytes(const struct loader_config *c)
{
    size_t all = (size_t)c->micro_batch * image_values(c);
    return round_up(c->raw ? raw_header_bytes(c) + all : all * sizeof(float), PAGE_BYTES);
}

void *loader_memory(const struct loader *l, int i, size_t *bytes)
{
    *bytes = slot_bytes(&l->config);
    return i < l->slot_count ? l->slots[i].images : NULL;
}

static enum status make_slots(struct loader *l)
{
    enum status status = STATUS_OK;
    const struct loader_config *c = &l->config;
    size_t n = (size_t)c->micro_batch, bytes = slot_bytes(c);
    l->slot_count = c->prefetch + 1;
    l->slots = calloc((size_t)l->slot_count, sizeof *l->slots);
    if (!l->slots)
        FAIL(STATUS_NOMEM, "out of memory for %d micro-batches", l->slot_count);
    for (int i = 0; i < l->slot_count; i++) {
        struct slot *slot = &l->slots[i];
        slot->images = aligned_alloc(PAGE_BYTES, bytes);
        slot->labels = malloc(n * sizeof *slot->labels);
        slot->ids = malloc(n * sizeof *slot->ids);
        if (!slot->images || !slot->labels || !slot->ids)
            FAIL(STATUS_NOMEM, "out of memory for %d micro-batches of %.1f MB", l->slot_count, (double)bytes / 1e6);
    }
fail:
    return status;
}

enum status loader_create(struct loader **out, const struct loader_config *config)
{
    enum status status = STATUS_OK;
    struct loader *l = NULL;
    TRY(check_config(config));
    l = calloc(1, sizeof *l);
    if (!l)
        FAIL(STATUS_NOMEM, "out of memory");
    l->config = *config;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work_ready, NULL);
    pthread_cond_init(&l->progress, NULL);
    l->samples = dataset_samples(config->dataset);
    l->chunk = config->image_size <= SMALL_IMAGE ? CHUNK_SMALL : CHUNK_LARGE;
    if (config->training) {
        l->steps_per_epoch = l->samples / config->batch;
        l->local_micro_batches = config->batch / config->micro_batch / config->ranks;
    } else {
        int64_t all = ceil_div(l->samples, config->micro_batch);
        l->evaluation_batches = (all - config->rank + config->ranks - 1) / config->ranks;
    }
    l->reader.dataset = config->dataset;
    l->reader.label_map = config->label_map;
    l->reader.skip_bad = config->skip_bad;
    l->reader.scaled_jpeg = config->scaled_jpeg;
    augmenter_init(&l->reader.augmenter, config->augment, config->training, config->image_size, config->seed,
                   config->mean, config->std);
    l->reader.augmenter.corruption = config->corruption;
    l->reader.augmenter.output_bytes = config->raw;
    l->scale = pixel_scale(config->mean, config->std);
    TRY(block_cache_init(&l->reader.cache, config->dataset));
    TRY(make_slots(l));
    if (!threads_start(&l->workers, config->workers, worker_main, l))
        FAIL(STATUS_NOMEM, "cannot start a thread");
    *out = l;
    return STATUS_OK;
fail:
    loader_destroy(l);
    return status;
}

void loader_destroy(struct loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->work_ready);
    pthread_mutex_unlock(&l->mutex);
    threads_join(&l->workers);
    for (int i = 0; l->slots && i < l->slot_count; i++) {
        free(l->slots[i].images);
        free(l->slots[i].labels);
        free(l->slots[i].ids);
    }
    block_cache_finish(&l->reader.cache);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->work_ready);
    pthread_cond_destroy(&l->progress);
    free(l->slots);
    free(l);
}

int64_t loader_steps_per_epoch(const struct loader *l)
{
    return l->steps_per_epoch;
}

enum status loader_seek(struct loader *l, int64_t epoch, int64_t step)
{
    enum status status = STATUS_OK;
    bool training = l->config.training;
    if (epoch < 0 || step < 0 || (training ? step > l->steps_per_epoch : epoch || step))
        FAIL(STATUS_USAGE, "loader: cannot seek to epoch %lld, step %lld", (long long)epoch, (long long)step);
    pthread_mutex_lock(&l->mutex);
    l->paused = true;
    while (l->busy_workers)
        pthread_cond_wait(&l->progress, &l->mutex);
    l->first_position = training ? (epoch * l->steps_per_epoch + step) * l->local_micro_batches : 0;
    l->next = l->begun = 0;
    l->consumer_holds = l->paused = false;
    pthread_cond_broadcast(&l->work_ready);
    pthread_mutex_unlock(&l->mutex);
fail:
    return status;
}

/* Removes the samples that an evaluation leaves out; the following ones move up. */
static void close_gaps(const struct loader *l, struct slot *slot)
{
    struct micro_batch *b = &slot->batch;
    struct image_crop *crops = slot->images; /* raw images stay, and their crops move */
    int kept = 0;
    for (int i = 0; i < b->count; i++) {
        if (slot->labels[i] == LABEL_MISSING)
            continue;
        if (kept < i && l->config.raw)
            crops[kept] = crops[i];
        else if (kept < i)
            memcpy(image_memory(l, slot, kept), image_memory(l, slot, i), image_values(&l->config) * sizeof(float));
        slot->labels[kept] = slot->labels[i];
        slot->ids[kept++] = slot->ids[i];
    }
    b->count = kept;
}

/* Like loader_next, but the micro-batch may be empty because all its samples are left out. */
static enum status next_batch(struct loader *l, const struct micro_batch **batch)
{
    enum status status = STATUS_OK;
    *batch = NULL;
    pthread_mutex_lock(&l->mutex);
    if (l->consumer_holds) {
        l->consumer_holds = false; /* the slot is free now */
        pthread_cond_broadcast(&l->work_ready);
    }
    if (!l->config.training && l->first_position + l->next >= l->evaluation_batches) {
        pthread_mutex_unlock(&l->mutex);
        return STATUS_OK;
    }
    struct slot *slot = &l->slots[l->next % l->slot_count];
    double began = clock_seconds();
    while (l->next >= l->begun || slot->filled < slot->batch.count)
        pthread_cond_wait(&l->progress, &l->mutex);
    l->stats.waited_s += clock_seconds() - began;
    if (slot->first_failed >= 0) {
        status = status_restore(&slot->failure); /* and so does the next call */
    } else {
        close_gaps(l, slot);
        add_work(&l->stats.work, &slot->work);
        l->consumer_holds = true;
        l->next++;
        *batch = &slot->batch;
    }
    pthread_mutex_unlock(&l->mutex);
    return status;
}

enum status loader_next(struct loader *l, const struct micro_batch **batch)
{
    enum status status = STATUS_OK;
    do {
        TRY(next_batch(l, batch));
    } while (*batch && (*batch)->count == 0);
fail:
    return status;
}

void loader_stats(const struct loader *l, struct loader_stats *stats)
{
    *stats = l->stats; /* only loader_next writes it, in the thread of the caller */
}
