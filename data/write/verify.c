/* verify.c - checks the index first, then every shard; each thread takes the next shard when it is free. */
#include "data/write/verify.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/integer.h"
#include "base/log.h"
#include "base/thread.h"
#include "data/format/block.h"
#include "data/format/index.h"
#include "data/format/shard.h"
#include "data/write/pack_progress.h"

enum { MAX_WARNINGS = 20 };

struct verification {
    const char *directory;
    struct index index;
    bool deep;
    pthread_mutex_t mutex; /* protects all members below */
    int next_shard;
    int64_t *counts; /* (classes) */
    struct verify_report *report;
    struct pack_progress progress;
    enum status damage_status;    /* of the damage found so far; STATUS_OK: none */
    struct status_record failure; /* the error that ends the verification, such as no memory */
};

/* Records this thread's failure. STATUS_DATA and STATUS_IO are damage, which is counted and warned of; anything else
 * ends the verification. */
static void record_failure(struct verification *v, bool whole_shard)
{
    enum status code = status_code();
    pthread_mutex_lock(&v->mutex);
    if (code != STATUS_DATA && code != STATUS_IO) {
        status_save(&v->failure);
        v->next_shard = v->index.shard_count;
    } else {
        v->report->damaged_blocks += !whole_shard;
        v->report->damaged_shards += whole_shard;
        if (v->report->damaged_blocks + v->report->damaged_shards <= MAX_WARNINGS)
            log_warn("%s", status_message());
        v->damage_status = code == STATUS_IO ? code : v->damage_status ? v->damage_status : code;
    }
    pthread_mutex_unlock(&v->mutex);
}

/* Decodes a block's samples and adds them to counts. Their sizes must agree with the index. */
static enum status count_block(const struct index *index, const struct shard *shard, uint32_t block_index,
                               const struct block *block, struct block_reader *reader, int64_t *counts)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < block->count; i++) {
        const struct block_sample *s = &block->samples[i];
        struct view view;
        if (block_decode_box(block, i, (struct box){ 0, 0, s->width, s->height }, 1, reader, &view) != STATUS_OK)
            FAIL(status_code(), "%s: block %u, sample %d: %s", shard->path, block_index, i, status_message());
        if (index->width && (s->width != index->width || s->height != index->height))
            FAIL(STATUS_DATA, "%s: block %u: an image of %d x %d, but the index says that all have %d x %d",
                 shard->path, block_index, s->width, s->height, index->width, index->height);
    }
    for (int i = 0; i < block->count; i++)
        counts[block->samples[i].label]++;
fail:
    return status;
}

static enum status verify_block(const struct verification *v, const struct shard *shard, uint32_t block_index,
                                struct block_reader *reader, struct block *block, int64_t *counts)
{
    enum status status = STATUS_OK;
    if (!v->deep)
        return shard_check_block(shard, block_index, reader);
    TRY(shard_read_block(shard, block_index, v->index.class_count, reader, block));
    TRY(count_block(&v->index, shard, block_index, block, reader, counts));
fail:
    return status;
}

static void count_progress(struct verification *v, const struct shard_entry *entry)
{
    pthread_mutex_lock(&v->mutex);
    v->report->blocks++;
    v->report->bytes += entry->bytes;
    v->report->samples += entry->samples;
    pack_progress_update(&v->progress, v->report->samples, v->report->bytes);
    pthread_mutex_unlock(&v->mutex);
}

static void verify_shard(struct verification *v, int shard_index, struct block_reader *reader, struct block *block,
                         int64_t *counts)
{
    struct shard shard = { .fd = -1 };
    if (shard_open_listed(&shard, v->directory, &v->index, shard_index) != STATUS_OK) {
        record_failure(v, true);
    } else {
        for (uint32_t b = 0; b < shard.blocks; b++) {
            if (verify_block(v, &shard, b, reader, block, counts) != STATUS_OK)
                record_failure(v, false);
            count_progress(v, &shard.table[b]);
        }
    }
    shard_close(&shard);
}

static void *worker_main(void *context)
{
    struct verification *v = context;
    struct block_reader reader = { 0 };
    struct block block = { 0 };
    int64_t *counts = calloc((size_t)v->index.class_count, sizeof *counts);
    for (bool more = true; more && counts;) {
        pthread_mutex_lock(&v->mutex);
        int shard_index = v->next_shard < v->index.shard_count ? v->next_shard++ : -1;
        pthread_mutex_unlock(&v->mutex);
        more = shard_index >= 0;
        if (more)
            verify_shard(v, shard_index, &reader, &block, counts);
    }
    if (!counts) {
        status_report(STATUS_NOMEM, __FILE__, __LINE__, "%s: out of memory", v->directory);
        record_failure(v, false);
    }
    pthread_mutex_lock(&v->mutex);
    for (int c = 0; counts && c < v->index.class_count; c++)
        v->counts[c] += counts[c];
    pthread_mutex_unlock(&v->mutex);
    free(counts);
    block_reader_finish(&reader);
    block_finish(&block);
    return NULL;
}

static void run_workers(struct verification *v, int workers)
{
    struct threads threads = { 0 };
    threads_start(&threads, max_int(0, min_int(workers, v->index.shard_count) - 1), worker_main, v);
    worker_main(v); /* the caller works too */
    threads_join(&threads);
}

static enum status check_result(const struct verification *v)
{
    enum status status = STATUS_OK;
    const struct verify_report *r = v->report;
    if (v->failure.code != STATUS_OK)
        return status_restore(&v->failure);
    if (r->damaged_shards)
        FAIL(v->damage_status, "%s: %d of %d shards are missing or damaged, and %lld of %lld blocks in the others",
             v->directory, r->damaged_shards, r->shards, (long long)r->damaged_blocks, (long long)r->blocks);
    if (r->damaged_blocks)
        FAIL(v->damage_status, "%s: %lld of %lld blocks are damaged", v->directory, (long long)r->damaged_blocks,
             (long long)r->blocks);
    for (int c = 0; v->deep && c < v->index.class_count; c++)
        if (v->counts[c] != v->index.counts[c])
            FAIL(STATUS_DATA, "%s: class %d has %lld samples, but the index says %lld", v->directory, c,
                 (long long)v->counts[c], (long long)v->index.counts[c]);
fail:
    return status;
}

enum status dataset_verify(const char *directory, bool deep, int workers, struct verify_report *report)
{
    enum status status = STATUS_OK;
    struct verification v = { .directory = directory, .deep = deep, .report = report };
    *report = (struct verify_report){ 0 };
    pthread_mutex_init(&v.mutex, NULL);
    TRY(index_read(&v.index, directory));
    report->shards = v.index.shard_count;
    v.counts = calloc((size_t)v.index.class_count, sizeof *v.counts);
    if (!v.counts)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    pack_progress_start(&v.progress, directory, v.index.samples);
    run_workers(&v, workers);
    report->seconds = pack_progress_end(&v.progress);
    TRY(check_result(&v));
fail:
    free(v.counts);
    index_finish(&v.index);
    pthread_mutex_destroy(&v.mutex);
    return status;
}
