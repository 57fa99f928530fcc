/* repair.c - repairs one shard after the other. A shard with a damaged header or table is copied as a whole. Damaged
 * blocks of other shards are found in the copy by their hash and written back. What is still damaged is dropped by
 * writing the shard again without it. The index is written last. Every shard describes its own content, so a repair
 * that was interrupted before the index can simply be repeated. */
#include "data/write/repair.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/read/dataset_internal.h"
#include "data/write/shard_writer.h"

struct repair {
    const char *directory;
    bool drop, changed;
    struct index index;
    struct dataset *copy;
    struct block_reader reader;
    struct block block;
    int64_t *counts; /* (classes): samples that remain; only counted with drop */
    struct repair_report *report;
};

static void shard_path(const struct repair *r, int shard_index, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", r->directory, r->index.shards[shard_index].name);
}

/* Whether a status means damage, which can be repaired. */
static bool is_damage(enum status status)
{
    return status == STATUS_DATA || status == STATUS_IO;
}

/* ---- whole shards ---- */

static enum status copy_shard(const char *from, const char *to)
{
    enum status status = STATUS_OK;
    char temporary[PATH_MAX];
    enum { BUFFER = 1 << 20 };
    int in = -1, out = -1;
    ssize_t got;
    uint8_t *buffer = malloc(BUFFER);
    if (!buffer)
        FAIL(STATUS_NOMEM, "%s: out of memory", to);
    if (snprintf(temporary, sizeof temporary, "%s.tmp", to) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: name too long", to);
    in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        FAIL(STATUS_IO, "%s: %s", from, strerror(errno));
    out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0)
        FAIL(STATUS_IO, "%s: %s", temporary, strerror(errno));
    for (uint64_t at = 0; (got = file_read_at(in, buffer, BUFFER, at)) != 0; at += (size_t)got) {
        if (got < 0)
            FAIL(STATUS_IO, "%s: %s", from, strerror(errno));
        if (!file_write_all(out, buffer, (size_t)got))
            FAIL(STATUS_IO, "%s: %s", temporary, strerror(errno));
    }
    if (fsync(out) != 0 || rename(temporary, to) != 0)
        FAIL(STATUS_IO, "%s: %s", to, strerror(errno));
fail:
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    free(buffer);
    return status;
}

/* Opens a shard, restoring it from the copy if its header or table is damaged. *good tells whether it is open; blocks
 * of it may still be damaged. */
static enum status open_shard(struct repair *r, int shard_index, struct shard *shard, bool *good)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    const struct index_shard *expected = &r->index.shards[shard_index];
    shard_path(r, shard_index, path);
    status = shard_open(shard, path);
    if (status != STATUS_OK && !is_damage(status))
        return status;
    *good = status == STATUS_OK &&
            (shard->hash == expected->hash || r->drop); /* an earlier repair may have dropped blocks */
    for (int i = 0; !*good && r->copy && i < r->copy->index.shard_count; i++) {
        if (r->copy->index.shards[i].hash != expected->hash || r->copy->index.shards[i].bytes != expected->bytes)
            continue;
        shard_close(shard);
        TRY(copy_shard(r->copy->shards[i].path, path));
        TRY(shard_open(shard, path));
        *good = true;
        r->report->restored_shards++;
    }
    status = STATUS_OK;
fail:
    return status;
}

/* ---- blocks ---- */

/* Restores a block if the copy has one with its hash; *restored tells whether it has. */
static enum status restore_block(struct repair *r, const struct shard *shard, uint32_t block_index, bool *restored)
{
    enum status status = STATUS_OK;
    const struct shard_entry *e = &shard->table[block_index];
    int fd = -1;
    *restored = false;
    for (int i = 0; r->copy && i < r->copy->index.shard_count && !*restored; i++) {
        const struct shard *from = &r->copy->shards[i];
        for (uint32_t b = 0; b < from->blocks && !*restored; b++)
            *restored = from->table[b].hash == e->hash && from->table[b].bytes == e->bytes &&
                        shard_check_block(from, b, &r->reader) == STATUS_OK;
    }
    if (!*restored)
        return STATUS_OK;
    fd = open(shard->path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        FAIL(STATUS_IO, "%s: %s", shard->path, strerror(errno));
    if (!file_write_at(fd, r->reader.compressed, e->bytes, e->offset) || fsync(fd) != 0)
        FAIL(STATUS_IO, "%s: %s", shard->path, strerror(errno));
    r->report->restored_blocks++;
fail:
    if (fd >= 0)
        close(fd);
    return status;
}

/* Checks a block and restores it if necessary; *good tells whether it is intact in the end. With drop, its samples are
 * counted. */
static enum status repair_block(struct repair *r, const struct shard *shard, uint32_t block_index, bool *good)
{
    enum status status = r->drop ? shard_read_block(shard, block_index, r->index.class_count, &r->reader, &r->block)
                                 : shard_check_block(shard, block_index, &r->reader);
    *good = status == STATUS_OK;
    if (!*good && !is_damage(status))
        return status;
    if (!*good) {
        log_warn("%s", status_message());
        r->report->damaged_blocks++;
        TRY(restore_block(r, shard, block_index, good));
        if (*good && r->drop)
            TRY(shard_read_block(shard, block_index, r->index.class_count, &r->reader, &r->block));
    }
    for (int i = 0; *good && r->drop && i < r->block.count; i++)
        r->counts[r->block.samples[i].label]++;
    status = STATUS_OK;
fail:
    return status;
}

/* Writes the shard again with only its good blocks. */
static enum status rewrite_shard(struct repair *r, const struct shard *shard, const bool *good)
{
    enum status status = STATUS_OK;
    struct shard_writer writer;
    TRY(shard_writer_init(&writer, shard->path, shard->codec));
    for (uint32_t b = 0; b < shard->blocks; b++) {
        const struct shard_entry *e = &shard->table[b];
        struct shard_frame frame = { e->bytes, e->raw_bytes, e->samples, e->hash };
        if (!good[b])
            continue;
        TRY(shard_check_block(shard, b, &r->reader));
        TRY(shard_writer_add(&writer, r->reader.compressed, &frame));
    }
    TRY(shard_writer_commit(&writer));
    r->changed = true;
fail:
    shard_writer_finish(&writer);
    return status;
}

/* Repairs the blocks of an open shard; *good_blocks is how many are intact in the end. With drop, the others are
 * removed. */
static enum status repair_blocks(struct repair *r, struct shard *shard, uint32_t *good_blocks)
{
    enum status status = STATUS_OK;
    bool *good = calloc(shard->blocks, sizeof *good);
    *good_blocks = 0;
    if (!good)
        FAIL(STATUS_NOMEM, "%s: out of memory", shard->path);
    for (uint32_t b = 0; b < shard->blocks; b++) {
        TRY(repair_block(r, shard, b, &good[b]));
        *good_blocks += good[b];
        r->report->lost_samples += good[b] ? 0 : shard->table[b].samples;
    }
    if (r->drop && *good_blocks && *good_blocks < shard->blocks)
        TRY(rewrite_shard(r, shard, good));
fail:
    free(good);
    return status;
}

/* ---- the dataset ---- */

/* Notes in the index that the dataset is not as it was packed. */
static enum status mark_changed(struct repair *r)
{
    enum status status = STATUS_OK;
    static const char words[] = ", damaged blocks dropped";
    char *text;
    if (strstr(r->index.made_by, words))
        return STATUS_OK;
    if (asprintf(&text, "%s%s", r->index.made_by, words) < 0)
        FAIL(STATUS_NOMEM, "%s: out of memory", r->directory);
    free(r->index.made_by);
    r->index.made_by = text;
fail:
    return status;
}

/* Removes a shard from the index. */
static void drop_shard(struct repair *r, int shard_index)
{
    memmove(&r->index.shards[shard_index], &r->index.shards[shard_index + 1],
            (size_t)(r->index.shard_count - shard_index - 1) * sizeof *r->index.shards);
    r->index.shard_count--;
    r->changed = true;
}

/* Updates the index's entry from the shard itself. */
static enum status describe_shard(struct repair *r, int shard_index)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    struct shard shard;
    struct index_shard *entry = &r->index.shards[shard_index];
    shard_path(r, shard_index, path);
    TRY(shard_open(&shard, path));
    r->changed |= entry->hash != shard.hash;
    entry->bytes = shard.bytes;
    entry->samples = shard.samples;
    entry->blocks = shard.blocks;
    entry->hash = shard.hash;
    shard_close(&shard);
fail:
    return status;
}

/* Repairs a shard; *dropped tells that nothing of it is left. */
static enum status repair_shard(struct repair *r, int shard_index, bool *dropped)
{
    enum status status = STATUS_OK;
    struct shard shard = { .fd = -1 };
    bool good = false;
    uint32_t good_blocks = 0;
    *dropped = false;
    TRY(open_shard(r, shard_index, &shard, &good));
    if (good)
        TRY(repair_blocks(r, &shard, &good_blocks));
    else
        log_warn("%s/%s: the shard is missing, or its header or table is damaged", r->directory,
                 r->index.shards[shard_index].name);
    if (!good)
        r->report->lost_samples += (int64_t)r->index.shards[shard_index].samples;
    *dropped = r->drop && !good_blocks;
    r->report->lost_shards += !good || (shard.blocks && !good_blocks);
fail:
    shard_close(&shard);
    return status;
}

static enum status write_index(struct repair *r)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    size_t bytes = 0;
    r->index.samples = 0;
    for (int i = 0; i < r->index.shard_count; i++)
        r->index.samples += (int64_t)r->index.shards[i].samples;
    if (!r->index.samples)
        FAIL(STATUS_DATA, "%s: every block is damaged; nothing would be left", r->directory);
    TRY(mark_changed(r));
    memcpy(r->index.counts, r->counts, (size_t)r->index.class_count * sizeof *r->counts);
    snprintf(path, sizeof path, "%s/index.json", r->directory);
    TRY(index_print(&r->index, &text, &bytes));
    TRY(file_write(path, text, bytes));
fail:
    free(text);
    return status;
}

enum status dataset_repair(const char *directory, const char *copy, bool drop, struct repair_report *report)
{
    enum status status = STATUS_OK;
    struct repair r = { .directory = directory, .drop = drop, .report = report };
    *report = (struct repair_report){ 0 };
    TRY(index_read(&r.index, directory));
    if (copy)
        TRY(dataset_open(&r.copy, copy));
    r.counts = calloc((size_t)r.index.class_count, sizeof *r.counts);
    if (!r.counts)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    for (int i = 0; i < r.index.shard_count;) {
        bool dropped;
        TRY(repair_shard(&r, i, &dropped));
        if (dropped)
            drop_shard(&r, i);
        else if (drop)
            TRY(describe_shard(&r, i++));
        else
            i++;
    }
    TRY(file_sync_folder(directory));
    if (r.changed)
        TRY(write_index(&r));
    if (!drop && (report->lost_shards || report->lost_samples))
        FAIL(STATUS_DATA, "%s: %lld images are still damaged; --drop leaves them out", directory,
             (long long)report->lost_samples);
fail:
    free(r.counts);
    block_finish(&r.block);
    block_reader_finish(&r.reader);
    dataset_close(r.copy);
    index_finish(&r.index);
    return status;
}
