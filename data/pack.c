/* pack.c - a ring of jobs, each a run of samples: the caller's thread fills jobs from the source and
 * writes them out in the same order, workers decode, cut into blocks and compress.
 * Where blocks begin depends on the samples only, so the files do not depend on the workers. */
#include "data/pack.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/log.h"
#include "data/block.h"
#include "data/dataset_writer.h"
#include "data/pack_progress.h"
#include "data/resize.h"

enum {
    JOB_ITEMS = 63,          /* of CIFAR's images these are three full blocks */
    JOB_BYTES = 256 << 10,   /* encoded; a job ends when it has more */
    WARNINGS = 20,           /* bad samples told one by one */
};

struct frame {
    size_t offset; /* in job.frames */
    uint32_t bytes, raw_bytes, samples;
};

struct result {
    struct status_record failure; /* code STATUS_OK: a good sample */
    int width, height;
    unsigned notes;
    size_t record_bytes;
};

enum job_state { JOB_FREE, JOB_READY, JOB_TAKEN, JOB_DONE };

struct job {
    enum job_state state;
    int count;
    struct pack_item items[JOB_ITEMS];
    struct result results[JOB_ITEMS];
    uint8_t *raw, *frames;
    size_t raw_capacity, raw_bytes, frames_capacity, frames_bytes;
    struct frame frame[JOB_ITEMS];
    int frame_count;
    struct status_record failure; /* of the job as a whole: no memory */
};

struct packer {
    struct pack_source *source;
    const struct pack_options *options;
    enum codec codec;
    struct pack_report *report;
    struct dataset_writer writer;
    struct pack_progress progress;
    pthread_mutex_t mutex;
    pthread_cond_t ready, done; /* a job became ready, done */
    bool stop;
    int job_count, worker_count;
    struct job *jobs;           /* (job_count), a ring */
    pthread_t *workers;
};

/* What a worker keeps from one image to the next. */
struct bench {
    struct image image, resized;
    struct resizer resizer;
    ZSTD_CCtx *zstd;
};

/* Shrinks bench->image as asked; *image is then the one to pack. */
static enum status shrink(const struct pack_options *o, struct bench *bench, struct image **image, unsigned *notes)
{
    enum status status = STATUS_OK;
    int width = bench->image.width, height = bench->image.height, to = o->resize_to;
    bool by_height = (o->resize == RESIZE_SHORT) == (width > height);
    *image = &bench->image;
    if (o->resize == RESIZE_NONE || (by_height ? height : width) <= to)
        return STATUS_OK;
    int w = by_height ? resize_other_side(to, height, width) : to;
    int h = by_height ? to : resize_other_side(to, width, height);
    TRY(image_resize_buffer(&bench->resized, w, h));
    TRY(resize_window(&bench->resizer, view_image(&bench->image), w, h, 0, 0, w, h, bench->resized.pixels));
    *image = &bench->resized;
    *notes |= 1u << NOTE_RESIZED;
fail:
    return status;
}

/* Decodes item i and appends its record to job->raw. */
static enum status process_item(struct packer *p, struct job *job, int i, struct bench *bench)
{
    enum status status = STATUS_OK;
    struct result *result = &job->results[i];
    struct image *image;
    const struct pack_item *item = &job->items[i];
    TRY(p->source->decode(p->source, item, &bench->image, &result->notes));
    TRY(shrink(p->options, bench, &image, &result->notes));
    struct block_input input = { item->label, image->width, image->height, image->pixels, item->data, item->bytes };
    size_t bytes = block_record_bytes(p->codec, &input);
    if (job->raw_bytes + bytes > job->raw_capacity) {
        size_t capacity = job->raw_bytes + bytes + job->raw_capacity / 2;
        uint8_t *grown = realloc(job->raw, capacity);
        if (!grown)
            FAIL(STATUS_NOMEM, "%s: out of memory for %zu bytes of pixels", job->items[i].name, capacity);
        job->raw = grown;
        job->raw_capacity = capacity;
    }
    block_append(job->raw + job->raw_bytes, p->codec, &input);
    job->raw_bytes += bytes;
    result->record_bytes = bytes;
    result->width = image->width;
    result->height = image->height;
fail:
    if (status != STATUS_OK)
        status_save(&result->failure);
    return status;
}

static enum status compress_frame(const struct packer *p, struct job *job, struct bench *bench, const uint8_t *raw,
                                  size_t bytes, uint32_t samples)
{
    enum status status = STATUS_OK;
    size_t bound = block_bound(p->codec, raw, bytes, samples), got;
    if (job->frames_bytes + bound > job->frames_capacity) {
        size_t capacity = job->frames_bytes + bound + job->frames_capacity / 2;
        uint8_t *grown = realloc(job->frames, capacity);
        if (!grown)
            FAIL(STATUS_NOMEM, "out of memory for %zu bytes of frames", capacity);
        job->frames = grown;
        job->frames_capacity = capacity;
    }
    TRY(block_compress(bench->zstd, p->codec, raw, bytes, samples, job->frames + job->frames_bytes, bound, &got));
    job->frame[job->frame_count++] = (struct frame){ job->frames_bytes, (uint32_t)got, (uint32_t)bytes, samples };
    job->frames_bytes += got;
fail:
    return status;
}

/* Cuts the records into blocks of about equal size, at most BLOCK_TARGET unless one record is larger. */
static enum status compress_job(const struct packer *p, struct job *job, struct bench *bench)
{
    enum status status = STATUS_OK;
    size_t blocks = (job->raw_bytes + BLOCK_TARGET - 1) / BLOCK_TARGET;
    size_t target = blocks ? (job->raw_bytes + blocks - 1) / blocks : 0;
    size_t begin = 0, bytes = 0;
    uint32_t samples = 0;
    for (int i = 0; i < job->count; i++) {
        size_t record = job->results[i].record_bytes;
        if (!record)
            continue;
        if (samples && bytes + record > target) {
            TRY(compress_frame(p, job, bench, job->raw + begin, bytes, samples));
            begin += bytes;
            bytes = samples = 0;
        }
        bytes += record;
        samples++;
    }
    if (samples)
        TRY(compress_frame(p, job, bench, job->raw + begin, bytes, samples));
fail:
    return status;
}

static void process_job(struct packer *p, struct job *job, struct bench *bench)
{
    enum status status = STATUS_OK;
    memset(job->results, 0, sizeof job->results);
    job->raw_bytes = job->frames_bytes = 0;
    job->frame_count = 0;
    job->failure.code = STATUS_OK;
    if (!bench->zstd) {
        bench->zstd = ZSTD_createCCtx();
        if (!bench->zstd)
            FAIL(STATUS_NOMEM, "out of memory for zstd");
    }
    for (int i = 0; i < job->count; i++) {
        status = process_item(p, job, i, bench);
        if (status != STATUS_OK && status != STATUS_DATA)
            goto fail;
    }
    TRY(compress_job(p, job, bench));
    return;
fail:
    (void)status;
    status_save(&job->failure);
}

static void *worker_main(void *context)
{
    struct packer *p = context;
    struct bench bench = { .zstd = NULL };
    pthread_mutex_lock(&p->mutex);
    while (!p->stop) {
        struct job *job = NULL;
        for (int i = 0; i < p->job_count && !job; i++)
            if (p->jobs[i].state == JOB_READY)
                job = &p->jobs[i];
        if (!job) {
            pthread_cond_wait(&p->ready, &p->mutex);
            continue;
        }
        job->state = JOB_TAKEN;
        pthread_mutex_unlock(&p->mutex);
        process_job(p, job, &bench);
        pthread_mutex_lock(&p->mutex);
        job->state = JOB_DONE;
        pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->mutex);
    image_finish(&bench.image);
    image_finish(&bench.resized);
    resizer_finish(&bench.resizer);
    ZSTD_freeCCtx(bench.zstd);
    return NULL;
}

/* Takes samples from the source until the job is full; a job without any is the end. */
static enum status fill_job(struct packer *p, struct job *job, bool *end)
{
    enum status status = STATUS_OK;
    size_t bytes = 0;
    job->count = 0;
    while (!*end && job->count < JOB_ITEMS && bytes < JOB_BYTES) {
        struct pack_item *item = &job->items[job->count];
        TRY(p->source->next(p->source, item, end));
        if (*end)
            break;
        bytes += item->bytes;
        job->count++;
    }
fail:
    return status;
}

/* Counts the job's samples, tells of bad ones, writes its blocks. */
static enum status commit_job(struct packer *p, struct job *job)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < job->count; i++) {
        const struct result *r = &job->results[i];
        if (r->failure.code != STATUS_OK && !(r->failure.code == STATUS_DATA && p->options->skip_bad))
            return status_restore(&r->failure);
    }
    if (job->failure.code != STATUS_OK)
        return status_restore(&job->failure);
    for (int i = 0; i < job->count; i++) {
        const struct result *r = &job->results[i];
        if (r->failure.code != STATUS_OK) {
            if (++p->report->skipped <= WARNINGS)
                log_warn("skipped: %s", r->failure.message);
            continue;
        }
        dataset_writer_count(&p->writer, job->items[i].label, r->width, r->height);
        p->report->samples++;
        for (int n = 0; n < NOTES; n++)
            p->report->notes[n] += r->notes >> n & 1;
    }
    for (int i = 0; i < job->frame_count; i++) {
        const struct frame *f = &job->frame[i];
        TRY(dataset_writer_add(&p->writer, job->frames + f->offset, f->bytes, f->raw_bytes, f->samples));
        p->report->bytes += f->bytes;
        p->report->raw_bytes += f->raw_bytes;
    }
    pack_progress_step(&p->progress, p->report->samples + p->report->skipped, p->report->bytes);
fail:
    return status;
}

/* Fills and commits jobs in ring order until the source ends. */
static enum status run_jobs(struct packer *p)
{
    enum status status = STATUS_OK;
    bool end = false;
    int64_t filled = 0, committed = 0;
    while (!end || committed < filled) {
        if (!end && filled - committed < p->job_count) {
            struct job *job = &p->jobs[filled % p->job_count];
            TRY(fill_job(p, job, &end));
            pthread_mutex_lock(&p->mutex);
            job->state = JOB_READY;
            pthread_cond_signal(&p->ready);
            pthread_mutex_unlock(&p->mutex);
            filled++;
            continue;
        }
        struct job *job = &p->jobs[committed % p->job_count];
        pthread_mutex_lock(&p->mutex);
        while (job->state != JOB_DONE)
            pthread_cond_wait(&p->done, &p->mutex);
        job->state = JOB_FREE;
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
    sigset_t all, before;
    int wanted = p->options->workers < 1 ? 1 : p->options->workers;
    p->job_count = 2 * wanted + 2;
    p->jobs = calloc((size_t)p->job_count, sizeof *p->jobs);
    p->workers = calloc((size_t)wanted, sizeof *p->workers);
    if (!p->jobs || !p->workers)
        FAIL(STATUS_NOMEM, "out of memory for %d workers", wanted);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    while (p->worker_count < wanted &&
           pthread_create(&p->workers[p->worker_count], NULL, worker_main, p) == 0)
        p->worker_count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!p->worker_count)
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
    for (int i = 0; i < p->worker_count; i++)
        pthread_join(p->workers[i], NULL);
    for (int j = 0; p->jobs && j < p->job_count; j++) {
        for (int i = 0; i < JOB_ITEMS; i++)
            free(p->jobs[j].items[i].data);
        free(p->jobs[j].raw);
        free(p->jobs[j].frames);
    }
    free(p->jobs);
    free(p->workers);
    dataset_writer_finish(&p->writer);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->ready);
    pthread_cond_destroy(&p->done);
}

enum status pack_dataset(struct pack_source *source, const char *directory, const struct pack_options *options,
                         struct pack_report *report)
{
    enum status status = STATUS_OK;
    struct packer p = { .source = source, .options = options, .codec = options->codec ? options->codec : CODEC_RGBZ,
                        .report = report };
    *report = (struct pack_report){ 0 };
    pthread_mutex_init(&p.mutex, NULL);
    pthread_cond_init(&p.ready, NULL);
    pthread_cond_init(&p.done, NULL);
    TRY(dataset_writer_init(&p.writer, directory, options->force, p.codec, source->classes, source->names,
                            options->made_by));
    TRY(start_workers(&p));
    pack_progress_start(&p.progress, directory, source->total);
    TRY(run_jobs(&p));
    TRY(dataset_writer_commit(&p.writer));
fail:
    report->seconds = pack_progress_end(&p.progress);
    if (report->skipped > WARNINGS)
        log_warn("%lld more bad samples skipped", (long long)report->skipped - WARNINGS);
    packer_finish(&p);
    return status;
}
