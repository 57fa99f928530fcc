/* dataset.c - opens a dataset's directory and locates samples in it. */
#include "data/read/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/read/dataset_internal.h"

enum status dataset_open_part(struct dataset **out, const char *directory)
{
    enum status status = STATUS_OK;
    struct dataset *d = calloc(1, sizeof *d);
    if (!d)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    d->directory = strdup(directory);
    if (!d->directory)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    TRY(index_read(&d->index, directory));
    d->shards = calloc((size_t)d->index.shard_count + 1, sizeof *d->shards);
    d->first_sample = calloc((size_t)d->index.shard_count + 1, sizeof *d->first_sample);
    d->first_block = calloc((size_t)d->index.shard_count + 1, sizeof *d->first_block);
    if (!d->shards || !d->first_sample || !d->first_block)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    for (int i = 0; i < d->index.shard_count; i++) {
        struct shard *shard = &d->shards[i];
        TRY(shard_open_listed(shard, directory, &d->index, i));
        d->first_sample[i + 1] = d->first_sample[i] + (int64_t)shard->samples;
        d->first_block[i + 1] = d->first_block[i] + shard->blocks;
        d->raw_bytes += shard->raw_bytes;
    }
    *out = d;
    d = NULL;
fail:
    dataset_close(d);
    return status;
}

enum status dataset_open(struct dataset **out, const char *directory)
{
    enum status status = STATUS_OK;
    struct dataset *d = NULL;
    TRY(dataset_open_part(&d, directory));
    if (!d->index.samples)
        FAIL(STATUS_DATA, "%s: a part of a packing without any image; csc-pack merge joins it with the others",
             directory);
    *out = d;
    d = NULL;
fail:
    dataset_close(d);
    return status;
}

enum status dataset_use_disk_cache(struct dataset *d, const char *directory, uint64_t limit)
{
    return disk_cache_open(&d->disk_cache, directory, limit, &d->index);
}

void dataset_close(struct dataset *d)
{
    if (!d)
        return;
    disk_cache_close(d->disk_cache);
    for (int i = 0; d->shards && i < d->index.shard_count; i++)
        shard_close(&d->shards[i]);
    index_finish(&d->index);
    free(d->directory);
    free(d->shards);
    free(d->first_sample);
    free(d->first_block);
    free(d);
}

struct sample_location dataset_locate(const struct dataset *d, int64_t sample)
{
    int low = 0, high = d->index.shard_count;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (d->first_sample[middle] <= sample)
            low = middle;
        else
            high = middle;
    }
    const struct shard *shard = &d->shards[low];
    uint32_t in_shard = (uint32_t)(sample - d->first_sample[low]);
    uint32_t first = 0, last = shard->blocks;
    while (last - first > 1) {
        uint32_t middle = first + (last - first) / 2;
        if (shard->table[middle].first <= in_shard)
            first = middle;
        else
            last = middle;
    }
    return (struct sample_location){ low, first, (int)(in_shard - shard->table[first].first),
                                     d->first_block[low] + first };
}

enum status dataset_read_block(const struct dataset *d, struct sample_location location, struct block_reader *reader,
                               struct block *block)
{
    enum status status = STATUS_OK;
    const struct shard *shard = &d->shards[location.shard];
    const struct shard_entry *e = &shard->table[location.block];
    double began = clock_seconds();
    block->count = 0;
    TRY(buffer_grow(&reader->compressed, &reader->compressed_capacity, e->bytes));
    if (!d->disk_cache || !disk_cache_get(d->disk_cache, location.shard, e, reader->compressed)) {
        TRY(shard_check_block(shard, location.block, reader));
        if (d->disk_cache)
            disk_cache_put(d->disk_cache, location.shard, e, reader->compressed);
    }
    reader->read_bytes += e->bytes;
    reader->read_s += clock_seconds() - began;
    TRY(shard_open_block(shard, location.block, d->index.class_count, reader, block));
fail:
    return status;
}

int64_t dataset_blocks(const struct dataset *d)
{
    return d->first_block[d->index.shard_count];
}

int64_t dataset_samples(const struct dataset *d)
{
    return d->index.samples;
}

int dataset_classes(const struct dataset *d)
{
    return d->index.class_count;
}

const char *dataset_class_name(const struct dataset *d, int label)
{
    return label >= 0 && label < d->index.class_count ? d->index.class_names[label] : "?";
}

char *const *dataset_class_names(const struct dataset *d)
{
    return d->index.class_names;
}

int dataset_image_size(const struct dataset *d)
{
    return d->index.width == d->index.height ? d->index.width : 0;
}

const char *dataset_fingerprint(const struct dataset *d)
{
    return d->index.hash;
}
