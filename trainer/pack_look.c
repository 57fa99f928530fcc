/* pack_look.c - the subcommands of csc-pack that look at a dataset. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/dataset_internal.h"
#include "data/verify.h"
#include "trainer/pack_command.h"

enum status run_verify(const struct arguments *a)
{
    enum status status = STATUS_OK;
    struct dataset *dataset = NULL;
    struct verify_report r;
    TRY(dataset_open(&dataset, a->operands[0]));
    TRY(dataset_verify(dataset, a->deep, &r));
    log_info("%s: good: %lld images in %lld blocks, %.1f MB, every hash%s, %.1f s", a->operands[0],
             (long long)dataset_samples(dataset), (long long)r.blocks, (double)r.bytes / 1e6,
             a->deep ? " and every image" : "", r.seconds);
fail:
    dataset_close(dataset);
    return status;
}

static uint64_t shard_bytes(const struct dataset *d)
{
    uint64_t bytes = 0;
    for (int i = 0; i < d->index.shards; i++)
        bytes += d->index.shard[i].bytes;
    return bytes;
}

static enum status write_info_json(const struct dataset *d, const char *path)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    json_t *names = json_array(), *counts = json_array();
    for (int i = 0; i < d->index.classes; i++) {
        json_array_append_new(names, json_string(d->index.names[i]));
        json_array_append_new(counts, json_integer(d->index.counts[i]));
    }
    json_t *object = json_pack("{s:s,s:s,s:I,s:i,s:i,s:i,s:I,s:I,s:I,s:s,s:o,s:o}", "codec", "rgbz", "made_by",
                               d->index.made_by, "samples", (json_int_t)d->index.samples, "width", d->index.width,
                               "height", d->index.height, "shards", d->index.shards, "blocks",
                               (json_int_t)dataset_blocks(d), "bytes", (json_int_t)shard_bytes(d), "decoded_bytes",
                               (json_int_t)d->raw_bytes, "fingerprint", d->index.hash, "classes", names, "counts", counts);
    text = object ? json_dumps(object, JSON_INDENT(1)) : NULL;
    if (!text)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    TRY(file_write(path, text, strlen(text)));
fail:
    free(text);
    json_decref(object);
    return status;
}

enum status run_info(const struct arguments *a)
{
    enum status status = STATUS_OK;
    enum { SHOWN = 20 };
    struct dataset *d = NULL;
    TRY(dataset_open(&d, a->operands[0]));
    char size[48] = "sizes differ";
    if (d->index.width)
        snprintf(size, sizeof size, "%d x %d pixels", d->index.width, d->index.height);
    log_info("%s: %lld images, %s, %d classes", a->operands[0], (long long)d->index.samples, size, d->index.classes);
    log_info("  codec rgbz, %d shards, %lld blocks, %.1f MB (decoded %.1f MB)", d->index.shards,
             (long long)dataset_blocks(d), (double)shard_bytes(d) / 1e6, (double)d->raw_bytes / 1e6);
    log_info("  made by %s, fingerprint %s", d->index.made_by, d->index.hash);
    for (int i = 0; i < d->index.classes && i < SHOWN; i++)
        log_info("  %5d  %-24s %lld", i, d->index.names[i], (long long)d->index.counts[i]);
    if (d->index.classes > SHOWN)
        log_info("  ... and %d more classes (--json has them all)", d->index.classes - SHOWN);
    if (a->json)
        TRY(write_info_json(d, a->json));
fail:
    dataset_close(d);
    return status;
}
