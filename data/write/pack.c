/* pack.c - a ring of jobs, each with a run of samples. The caller's thread fills the jobs and writes their results in
 * the same order; workers read, decode, divide into blocks and compress. Where jobs and blocks begin depends only on
 * the samples, so the files do not depend on the workers. */
#include "data/write/pack.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/hash.h"
#include "base/integer.h"
#include "base/log.h"
#include "base/thread.h"
#include "data/write/dataset_writer.h"
#include "data/write/pack_job.h"
#include "data/write/pack_progress.h"

enum {
    MAX_WARNINGS = 20, /* about bad samples; the report has all of them */
    /* Names of files that are not images in a batch, which must fit into a record of the journal. */
    MAX_NAMES_PER_BATCH = 100000,
    MAX_NAME_BYTES_PER_BATCH = 32 << 20,
};

struct packer {
    struct pack_source *source;
    struct pack_options options;
    struct pack_report *report;
    struct dataset_writer writer;
    struct pack_progress progress;
    int64_t first, next, end; /* samples of this part; those before `next` have been given to jobs */
    int64_t bad_samples;
    int64_t unlisted; /* files that are not images and did not fit into the report */
    pthread_mutex_t mutex;
    pthread_cond_t ready, done; /* signalled when a job becomes ready or done */
    bool stop;
    int job_count;
    struct pack_job *jobs; /* (job_count), a ring */
    struct threads workers;
};

static void *worker_main(void *context)
{
    struct packer *p = context;
    struct pack_worker worker = { .raw = NULL };
    pthread_mutex_lock(&p->mutex);
    while (!p->stop) {
        struct pack_job *job = NULL;
        for (int i = 0; i < p->job_count; i++)
            if (p->jobs[i].state == PACK_JOB_READY && (!job || p->jobs[i].first < job->first))
                job = &p->jobs[i];
        if (!job) {
            pthread_cond_wait(&p->ready, &p->mutex);
            continue;
        }
        job->state = PACK_JOB_RUNNING;
        pthread_mutex_unlock(&p->mutex);
        pack_job_process(job, p->source, &p->options, &worker);
        pthread_mutex_lock(&p->mutex);
        job->state = PACK_JOB_DONE;
        pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->mutex);
    pack_worker_finish(&worker);
    return NULL;
}

/* Assigns the next samples to a job and, if the source is not parallel, reads them. */
static void fill_job(struct packer *p, struct pack_job *job)
{
    job->first = p->next;
    job->count = pack_job_length(p->source, p->next, p->end);
    for (int i = 0; i < job->count && !p->source->parallel; i++)
        pack_job_read(job, i, p->source, &job->items[i]);
    p->next += job->count;
}

/* Fails for the first of the job's errors that ends the packing. */
static enum status check_job(struct packer *p, const struct pack_job *job)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < job->count; i++) {
        const struct status_record *bad = &job->errors[i];
        if (bad->code == STATUS_OK || (job->skippable[i] && p->options.skip_bad))
            continue;
        if (job->skippable[i] && p->source->is_files)
            FAIL(bad->code, "%s (--bad skip leaves such images out and continues from here)", bad->message);
        return status_restore(bad);
    }
    if (job->job_error.code != STATUS_OK)
        return status_restore(&job->job_error);
fail:
    return status;
}

/* The number of names [first, end) of files that are not images that fit into the record of one batch. */
static int64_t count_names(const struct pack_source *source, int64_t first, int64_t end)
{
    int64_t count = 0;
    size_t bytes = 0;
    while (first + count < end && count < MAX_NAMES_PER_BATCH) {
        bytes += strlen(source->non_images[first + count]);
        if (bytes > MAX_NAME_BYTES_PER_BATCH)
            break;
        count++;
    }
    return count;
}

/* Makes a batch of the job's samples. Before them it names a proportional number of the source's files that are not
 * images, so that the report has the same lines however the packing is interrupted or divided. The caller frees
 * batch->samples. */
static enum status build_batch(struct packer *p, const struct pack_job *job, struct pack_batch *batch)
{
    enum status status = STATUS_OK;
    double names_per_sample = (double)p->source->non_image_count / (double)p->source->total;
    int64_t first = (int64_t)(names_per_sample * (double)job->first),
            end = (int64_t)(names_per_sample * (double)batch->next_sample);
    if (batch->next_sample == p->source->total)
        end = p->source->non_image_count;
    int64_t names = count_names(p->source, first, end);
    p->unlisted += end - first - names;
    batch->samples = calloc((size_t)(names + job->count), sizeof *batch->samples);
    if (!batch->samples)
        FAIL(STATUS_NOMEM, "out of memory for %lld names", (long long)names);
    for (batch->count = 0; batch->count < names; batch->count++)
        batch->samples[batch->count] = (struct pack_batch_sample){ .name = p->source->non_images[first + batch->count],
                                                                   .reason = PACK_NOT_AN_IMAGE };
    memcpy(batch->samples + batch->count, job->samples, (size_t)job->count * sizeof *job->samples);
    batch->count += job->count;
fail:
    return status;
}

/* Writes the job's blocks and warns of its bad samples. */
static enum status commit_job(struct packer *p, struct pack_job *job)
{
    enum status status = STATUS_OK;
    struct pack_batch batch = { job->first + job->count, 0, job->frame_count, NULL, job->frames };
    TRY(check_job(p, job));
    TRY(build_batch(p, job, &batch));
    TRY(dataset_writer_add(&p->writer, &batch, job->frame_data));
    for (int i = 0; i < job->count; i++)
        if (job->errors[i].code != STATUS_OK && ++p->bad_samples <= MAX_WARNINGS)
            log_warn("left out: %s", job->errors[i].message);
    pack_progress_update(&p->progress, batch.next_sample - p->first, p->writer.bytes);
fail:
    free(batch.samples);
    return status;
}

/* Fills and commits jobs in the order of the ring until all samples have been written. */
static enum status run_jobs(struct packer *p)
{
    enum status status = STATUS_OK;
    int64_t filled = 0, committed = 0;
    while (p->next < p->end || committed < filled) {
        if (p->next < p->end && filled - committed < p->job_count) {
            struct pack_job *job = &p->jobs[filled % p->job_count];
            fill_job(p, job);
            pthread_mutex_lock(&p->mutex);
            job->state = PACK_JOB_READY;
            pthread_cond_signal(&p->ready);
            pthread_mutex_unlock(&p->mutex);
            filled++;
            continue;
        }
        struct pack_job *job = &p->jobs[committed % p->job_count];
        pthread_mutex_lock(&p->mutex);
        while (job->state != PACK_JOB_DONE)
            pthread_cond_wait(&p->done, &p->mutex);
        job->state = PACK_JOB_FREE;
        pthread_mutex_unlock(&p->mutex);
        TRY(commit_job(p, job));
        committed++;
    }
fail:
    return status;
}

static enum status start_workers(struct packer *p)
{
    enum status status = STATUS_OK;
    int wanted = max_int(1, p->options.workers);
    p->job_count = 2 * wanted + 2;
    p->jobs = calloc((size_t)p->job_count, sizeof *p->jobs);
    if (!p->jobs)
        FAIL(STATUS_NOMEM, "out of memory for %d workers", wanted);
    if (!threads_start(&p->workers, wanted, worker_main, p))
        FAIL(STATUS_NOMEM, "cannot start a thread");
fail:
    return status;
}

static void packer_finish(struct packer *p)
{
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_broadcast(&p->ready);
    pthread_mutex_unlock(&p->mutex);
    threads_join(&p->workers);
    for (int j = 0; p->jobs && j < p->job_count; j++)
        pack_job_finish(&p->jobs[j]);
    free(p->jobs);
    dataset_writer_finish(&p->writer);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->ready);
    pthread_cond_destroy(&p->done);
}

enum status pack_range(const struct pack_options *o, int64_t total, int64_t *first, int64_t *end)
{
    enum status status = STATUS_OK;
    int64_t groups = ceil_div(total, PACK_GROUP);
    *first = 0;
    *end = total;
    if (!o->parts)
        return STATUS_OK;
    *first = groups * (o->part - 1) / o->parts * PACK_GROUP;
    *end = o->part == o->parts ? total : groups * o->part / o->parts * PACK_GROUP;
    if (*first >= *end)
        FAIL(STATUS_USAGE, "--part %d/%d: %lld images are too few for so many parts", o->part, o->parts,
             (long long)total);
fail:
    return status;
}

/* Hashes everything that the bytes of the whole dataset depend on. */
static enum status identify(const struct packer *p, uint64_t *identity)
{
    enum status status = STATUS_OK;
    const struct pack_options *o = &p->options;
    char *text = NULL;
    int length = asprintf(&text, "%s\ncodec %d\nresize %d %d\nshard %llu\nzstd %u\nsamples %lld %016llx\n", o->made_by,
                          o->codec, o->resize, o->resize_to, (unsigned long long)o->shard_bytes, ZSTD_versionNumber(),
                          (long long)p->source->total, (unsigned long long)p->source->fingerprint);
    if (length < 0)
        FAIL(STATUS_NOMEM, "out of memory");
    *identity = hash_bytes(text, (size_t)length);
    free(text);
fail:
    return status;
}

static enum status open_writer(struct packer *p, const char *directory)
{
    enum status status = STATUS_OK;
    const struct pack_options *o = &p->options;
    struct dataset_writer_options writer_options = { .force = o->force,
                                                     .keep_journal = o->keep_journal,
                                                     .part = o->parts != 0,
                                                     .codec = o->codec,
                                                     .class_count = p->source->class_count,
                                                     .class_names = p->source->class_names,
                                                     .made_by = o->made_by,
                                                     .shard_bytes = o->shard_bytes };
    char *made_by = NULL;
    TRY(identify(p, &writer_options.identity));
    TRY(pack_range(o, p->source->total, &p->first, &p->end));
    if (o->parts) {
        if (asprintf(&made_by, "%s --part %d/%d of %016llx", o->made_by, o->part, o->parts,
                     (unsigned long long)writer_options.identity) < 0) {
            made_by = NULL;
            FAIL(STATUS_NOMEM, "out of memory");
        }
        writer_options.made_by = made_by;
        writer_options.identity = hash_bytes(made_by, strlen(made_by));
    }
    TRY(dataset_writer_init(&p->writer, directory, &writer_options));
    p->next = p->writer.next_sample > p->first ? p->writer.next_sample : p->first;
    if (p->next > p->end)
        FAIL(STATUS_DATA, "%s: its journal says that %lld of %lld images are packed; --force starts over", directory,
             (long long)p->next, (long long)p->end);
    if (p->writer.complete)
        log_info("%s: was complete already", directory);
    else if (p->next > p->first)
        log_info("%s: continuing where it was interrupted, after image %lld of %lld", directory,
                 (long long)(p->next - p->first), (long long)(p->end - p->first));
    p->report->resumed_at = p->next - p->first;
    pack_progress_start(&p->progress, directory, p->end - p->first);
    p->progress.done_before = p->next - p->first;
fail:
    free(made_by);
    return status;
}

void pack_report_fill(struct pack_report *r, const struct dataset_writer *w)
{
    r->skipped = w->skipped;
    r->non_images = w->non_images;
    r->samples = 0;
    for (int c = 0; c < w->index.class_count; c++)
        r->samples += w->index.counts[c];
    memcpy(r->notes, w->notes, sizeof r->notes);
    r->bytes = w->bytes;
    r->raw_bytes = w->raw_bytes;
}

enum status pack_dataset(struct pack_source *source, const char *directory, const struct pack_options *options,
                         struct pack_report *report)
{
    enum status status = STATUS_OK;
    struct packer p = { .source = source, .options = *options, .report = report };
    p.options.codec = options->codec ? options->codec : CODEC_RGBZ;
    p.options.shard_bytes = options->shard_bytes ? options->shard_bytes : SHARD_TARGET;
    *report = (struct pack_report){ 0 };
    pthread_mutex_init(&p.mutex, NULL);
    pthread_cond_init(&p.ready, NULL);
    pthread_cond_init(&p.done, NULL);
    if (p.options.codec == CODEC_JPEG && !source->is_files)
        FAIL(STATUS_USAGE, "--codec jpeg stores image files, but these images do not come from files");
    TRY(open_writer(&p, directory));
    TRY(start_workers(&p));
    TRY(run_jobs(&p));
    pack_report_fill(report, &p.writer);
    TRY(dataset_writer_commit(&p.writer));
fail:
    if (status == STATUS_IO && p.writer.next_sample > p.first)
        status_report(status, __FILE__, __LINE__,
                      "%s; what has been packed is kept, and the same command continues from there", status_message());
    report->seconds = pack_progress_end(&p.progress);
    if (p.unlisted)
        log_warn("%lld more files that are not named as images are left out; %s/report.tsv has no room for them",
                 (long long)p.unlisted, directory);
    if (p.bad_samples > MAX_WARNINGS)
        log_warn("%lld more images left out; %s/report.tsv lists them", (long long)p.bad_samples - MAX_WARNINGS,
                 directory);
    packer_finish(&p);
    return status;
}
