/* pack_inspect.c - csc-pack's verify, info, repair and bench, and --estimate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/read/dataset_internal.h"
#include "data/sources/dataset_source.h"
#include "data/write/estimate.h"
#include "data/write/repair.h"
#include "data/write/verify.h"
#include "trainer/pack/pack_command.h"
#include "trainer/report/json_output.h"

enum { ESTIMATE_IMAGES = 128, BENCH_IMAGES = 256 }; /* images that are measured, about */

enum status run_verify(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    struct verify_report r;
    log_stdout_is_results();
    TRY(dataset_verify(a->operands[0], a->deep, a->pack.workers, &r));
    log_info("%s: good: %lld images in %lld blocks, %.1f MB, every hash%s, %.1f s", a->operands[0],
             (long long)r.samples, (long long)r.blocks, (double)r.bytes / 1e6, a->deep ? " and every image" : "",
             r.seconds);
fail:
    return status;
}

enum status run_repair(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    struct repair_report r;
    if (!a->from && !a->drop)
        FAIL(STATUS_USAGE, "give --from DIR, with a dataset that holds the damaged blocks, or --drop, or both");
    TRY(dataset_repair(a->operands[0], a->from, a->drop, &r));
    log_info("%s: %lld blocks were damaged, %lld of them and %d shards restored", a->operands[0],
             (long long)r.damaged_blocks, (long long)r.restored_blocks, r.restored_shards);
    if (r.lost_samples)
        log_info("  %lld images dropped; the dataset now has another fingerprint", (long long)r.lost_samples);
fail:
    return status;
}

/* Prints size and times for each codec. */
static void print_estimates(const struct pack_source *source, const struct estimate e[2])
{
    log_info("from %lld of %lld images, one thread:", (long long)(e[0].images + e[0].bad), (long long)source->total);
    if (e[0].bad)
        log_info("  %lld of them cannot be read", (long long)e[0].bad);
    log_info("  codec  bytes an image        total   packing an image   decoding a random crop");
    for (int i = 0; i < 2; i++)
        if (e[i].images)
            log_info("  %s   %14.0f  %8.2f GB   %13.3f ms   %19.3f ms", i ? "jpeg" : "rgbz", e[i].bytes,
                     e[i].total / 1e9, 1e3 * e[i].pack_s, 1e3 * e[i].crop_s);
}

enum status print_estimate(struct pack_source *source, const struct pack_options *options)
{
    enum status status = STATUS_OK;
    struct estimate e[2];
    log_stdout_is_results();
    TRY(estimate_source(source, options, ESTIMATE_IMAGES, e));
    print_estimates(source, e);
fail:
    return status;
}

enum status run_bench(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    struct dataset *dataset = NULL;
    struct dataset_source source = { .open_block = -1 };
    struct estimate e[2];
    log_stdout_is_results();
    TRY(dataset_open(&dataset, a->operands[0]));
    dataset_source_init(&source, dataset);
    TRY(estimate_source(&source.source, &a->pack, BENCH_IMAGES, e));
    print_estimates(&source.source, e);
    log_info("  reading and hashing: %.0f MB/s",
             source.reader.read_s > 0 ? (double)source.reader.read_bytes / 1e6 / source.reader.read_s : 0);
fail:
    dataset_source_finish(&source);
    dataset_close(dataset);
    return status;
}

static uint64_t shard_bytes(const struct dataset *d)
{
    uint64_t bytes = 0;
    for (int i = 0; i < d->index.shard_count; i++)
        bytes += d->index.shards[i].bytes;
    return bytes;
}

static enum status write_info_json(const struct dataset *d, const char *path)
{
    json_t *names = json_array(), *counts = json_array();
    for (int i = 0; i < d->index.class_count; i++) {
        json_array_append_new(names, json_string(d->index.class_names[i]));
        json_array_append_new(counts, json_integer(d->index.counts[i]));
    }
    json_t *object = json_pack(
        "{s:s,s:s,s:I,s:i,s:i,s:i,s:I,s:I,s:I,s:s,s:o,s:o}", "codec", codec_name(d->index.codec), "made_by",
        d->index.made_by, "samples", (json_int_t)d->index.samples, "width", d->index.width, "height", d->index.height,
        "shards", d->index.shard_count, "blocks", (json_int_t)dataset_blocks(d), "bytes", (json_int_t)shard_bytes(d),
        "decoded_bytes", (json_int_t)d->raw_bytes, "fingerprint", d->index.hash, "classes", names, "counts", counts);
    return json_output(object, path);
}

static void print_info(const char *path, const struct dataset *d)
{
    enum { MAX_CLASSES_SHOWN = 20 };
    char size[48] = "sizes differ";
    if (d->index.width)
        snprintf(size, sizeof size, "%d x %d pixels", d->index.width, d->index.height);
    log_info("%s: %lld images, %s, %d classes", path, (long long)d->index.samples, size, d->index.class_count);
    log_info("  codec %s, %d shards, %lld blocks, %.1f MB (decoded %.1f MB)", codec_name(d->index.codec),
             d->index.shard_count, (long long)dataset_blocks(d), (double)shard_bytes(d) / 1e6,
             (double)d->raw_bytes / 1e6);
    log_info("  made by %s, fingerprint %s", d->index.made_by, d->index.hash);
    for (int i = 0; i < d->index.class_count && i < MAX_CLASSES_SHOWN; i++)
        log_info("  %5d  %-24s %lld", i, d->index.class_names[i], (long long)d->index.counts[i]);
    if (d->index.class_count > MAX_CLASSES_SHOWN)
        log_info("  ... and %d more classes (--json has them all)", d->index.class_count - MAX_CLASSES_SHOWN);
}

enum status run_info(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    struct dataset *d = NULL;
    log_stdout_is_results();
    TRY(dataset_open(&d, a->operands[0]));
    if (!a->json || strcmp(a->json, "-") != 0)
        print_info(a->operands[0], d);
    if (a->json)
        TRY(write_info_json(d, a->json));
fail:
    dataset_close(d);
    return status;
}
