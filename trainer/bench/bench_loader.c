/* bench_loader.c - csc-bench loader: how fast the loader makes batches from a dataset, and what limits it. Takes
 * micro-batches as fast as they come, or at a fixed rate, as training does. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/affinity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "data/read/dataset_internal.h"
#include "data/read/loader.h"
#include "data/read/order.h"
#include "trainer/bench/bench.h"

static const char help[] =
    "Reads DIR, a dataset made by csc-pack, as training does, and prints the images per second, per second and\n"
    "per core, how long the consumer waits, and the bottleneck.\n\n"
    "  --workers N         worker threads (default: the cores this process may use)\n"
    "  --size N            side of the crops in pixels (default: the dataset's image size, or 224)\n"
    "  --augment KIND      imagenet, cifar or none (default: imagenet above 64 pixels, else cifar)\n"
    "  --shuffle ORDER     true, false or window (default true)\n"
    "  --window N          samples in a window (default 65536)\n"
    "  --batch N           images in a batch (default 64)\n"
    "  --prefetch N        batches that are prepared ahead (default 3)\n"
    "  --consume RATE      take at most RATE images a second, and print how long the consumer waited for them\n"
    "  --cold              drop the dataset from the page cache first, to measure storage too\n"
    "  --seconds N         how long to measure (default 5), after the first batch\n"
    "  --seed N            seed of order and augmentation (default 1)\n"
    "  --json FILE         write the results (- for standard output)\n"
    "  --help              print this text\n";

struct arguments {
    const char *directory, *json;
    struct loader_config loader;
    int augment;    /* enum augment, or -1 */
    double consume; /* images a second; 0: no limit */
    double seconds;
    bool cold;
};

struct result {
    int64_t images;
    double seconds, cpu_seconds, wait_seconds;
    struct loader_work work; /* of the measured images */
};

static enum status parse(int argc, char **argv, struct arguments *a)
{
    static const char *const augments[] = { "none", "cifar", "imagenet", NULL };
    static const char *const shuffles[] = { "false", "true", "window", NULL };
    enum status status = STATUS_OK;
    struct loader_config *l = &a->loader;
    int first;
    const struct option_row rows[] = {
        { "workers", .integer = &l->workers, .low = 1, .high = 1024 },
        { "size", .integer = &l->image_size, .low = 4, .high = 8192 },
        { "augment", .choice = &a->augment, .names = augments },
        { "shuffle", .choice = (int *)&l->shuffle, .names = shuffles },
        { "window", .integer64 = &l->window, .low = 1, .high = 0x1p40 },
        { "batch", .integer = &l->batch, .low = 1, .high = 65536 },
        { "prefetch", .integer = &l->prefetch, .low = 1, .high = 1024 },
        { "consume", .number = &a->consume, .low = 1, .high = 1e9 },
        { "cold", .on = &a->cold },
        { "seconds", .number = &a->seconds, .low = 0.01, .high = 86400 },
        { "seed", .integer64 = (int64_t *)&l->seed, .low = 0, .high = 0x1p63 },
        { "json", .text = &a->json },
        { .name = NULL },
    };
    TRY(options_parse(rows, NULL, argc, argv, "csc-bench loader", help, &first, NULL));
    if (first + 1 != argc)
        FAIL(STATUS_USAGE, "one dataset is needed; see csc-bench loader --help");
    a->directory = argv[first];
fail:
    return status;
}

/* Drops the shards from the page cache, so that the next reads come from storage. Pages that other processes use
 * stay. */
static enum status drop_pages(const struct dataset *d)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < d->index.shard_count; i++) {
        int error = posix_fadvise(d->shards[i].fd, 0, 0, POSIX_FADV_DONTNEED);
        if (error)
            FAIL(STATUS_IO, "%s: cannot be dropped from the page cache: %s", d->shards[i].path, strerror(error));
    }
fail:
    return status;
}

static void sleep_until(double when)
{
    for (double left; (left = when - clock_seconds()) > 0;) {
        struct timespec t = { (time_t)left, (long)(fmod(left, 1) * 1e9) };
        nanosleep(&t, NULL);
    }
}

static enum status drain(struct loader *loader, const struct arguments *a, struct result *r)
{
    enum status status = STATUS_OK;
    const struct micro_batch *batch;
    struct loader_stats before, after;
    TRY(loader_next(loader, &batch)); /* after it, threads, memory and, at a fixed rate, the first batches are ready */
    if (a->consume > 0)
        sleep_until(clock_seconds() + a->loader.prefetch * a->loader.batch / a->consume);
    loader_stats(loader, &before);
    double began = clock_seconds(), cpu_seconds = clock_process_seconds(), due = began;
    while (clock_seconds() < began + a->seconds) {
        TRY(loader_next(loader, &batch));
        r->images += batch->count;
        if (a->consume > 0) {
            due = fmax(due, clock_seconds() - batch->count / a->consume) + batch->count / a->consume;
            sleep_until(due);
        }
    }
    r->seconds = clock_seconds() - began;
    r->cpu_seconds = clock_process_seconds() - cpu_seconds;
    loader_stats(loader, &after);
    r->wait_seconds = after.waited_s - before.waited_s;
    r->work = after.work;
    r->work.read_s -= before.work.read_s;
    r->work.decode_s -= before.work.decode_s;
    r->work.resize_s -= before.work.resize_s;
    r->work.copy_s -= before.work.copy_s;
    r->work.read_bytes -= before.work.read_bytes;
    r->work.samples -= before.work.samples;
fail:
    return status;
}

/* The bottleneck: the consumer, or the largest part of the workers' time. */
static const char *bottleneck(const struct arguments *a, const struct result *r)
{
    const struct loader_work *w = &r->work;
    double rate = (double)r->images / r->seconds;
    if (a->consume > 0 && rate > .99 * a->consume && r->wait_seconds < .01 * r->seconds)
        return "the consumer";
    double rest = fmax(w->decode_s, fmax(w->resize_s, w->copy_s));
    if (w->read_s > rest)
        return "reading";
    return w->decode_s == rest ? "decoding" : w->resize_s == rest ? "resizing" : "copying";
}

static json_t *to_json(const struct arguments *a, const struct result *r, const struct order_quality *q)
{
    const struct loader_work *w = &r->work;
    double images = w->samples ? (double)w->samples : 1;
    return json_pack("{s:s,s:i,s:I,s:f,s:f,s:f,s:f,s:f,s:s,s:{s:f,s:f,s:f,s:f},s:f,s:{s:f,s:f}}", "dataset",
                     a->directory, "workers", a->loader.workers, "images", (json_int_t)r->images, "seconds", r->seconds,
                     "img_s", (double)r->images / r->seconds, "img_s_core", (double)r->images / r->cpu_seconds,
                     "data_wait", r->wait_seconds / r->seconds, "consume", a->consume, "bottleneck", bottleneck(a, r),
                     "microseconds", "read", 1e6 * w->read_s / images, "decode", 1e6 * w->decode_s / images, "resize",
                     1e6 * w->resize_s / images, "copy", 1e6 * w->copy_s / images, "read_bytes",
                     (double)w->read_bytes / images, "shuffle", "displacement", q->displacement, "separation",
                     q->separation);
}

static enum status report(const struct arguments *a, const struct result *r)
{
    const struct loader_work *w = &r->work;
    const struct loader_config *l = &a->loader;
    double images = w->samples ? (double)w->samples : 1, us = 1e6 / images;
    struct order order;
    order_init(&order, l->shuffle, (uint64_t)dataset_samples(l->dataset), (uint64_t)l->window, l->seed, 0);
    struct order_quality q = order_measure(&order, (uint64_t)l->batch, 1 << 20);
    log_info("%s: %.0f images/s with %d workers; %.0f per second of processor time; waited %.2f%% of the time",
             a->directory, (double)r->images / r->seconds, l->workers, (double)r->images / r->cpu_seconds,
             100 * r->wait_seconds / r->seconds);
    log_info("  per image: read %.0f us (%.1f kB), decode %.0f us, resize %.0f us, copy %.0f us; bottleneck: %s",
             us * w->read_s, (double)w->read_bytes / images / 1e3, us * w->decode_s, us * w->resize_s, us * w->copy_s,
             bottleneck(a, r));
    if (l->shuffle != SHUFFLE_FULL)
        log_info("  order, against 1 for a random one: distance moved %.2f, neighbours kept apart %.3f", q.displacement,
                 q.separation);
    return bench_write_json(to_json(a, r, &q), a->json);
}

static enum status run(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct dataset *dataset = NULL;
    struct loader *loader = NULL;
    struct result result = { 0 };
    struct arguments a = { .augment = -1,
                           .seconds = 5,
                           .loader = { .training = true,
                                       .seed = 1,
                                       .shuffle = SHUFFLE_FULL,
                                       .window = 65536,
                                       .batch = 64,
                                       .ranks = 1,
                                       .workers = affinity_cores(),
                                       .prefetch = 3,
                                       .mean = { .485, .456, .406 },
                                       .std = { .229, .224, .225 } } };
    TRY(parse(argc, argv, &a));
    TRY(dataset_open(&dataset, a.directory));
    a.loader.dataset = dataset;
    a.loader.micro_batch = a.loader.batch;
    if (!a.loader.image_size)
        a.loader.image_size = dataset_image_size(dataset) ? dataset_image_size(dataset) : 224;
    a.loader.augment = a.augment >= 0 ? a.augment : a.loader.image_size > 64 ? AUGMENT_IMAGENET : AUGMENT_CIFAR;
    if (a.cold)
        TRY(drop_pages(dataset));
    TRY(loader_create(&loader, &a.loader));
    TRY(drain(loader, &a, &result));
    TRY(report(&a, &result));
fail:
    loader_destroy(loader);
    dataset_close(dataset);
    return status;
}

const struct bench_command bench_loader = { "loader", "DIR [options]", "images per second from a dataset", help, run };
