/* dataset_recover.c - replays the journal of an interrupted packing into a dataset_writer.
 * A finished shard is accepted if its table has the hash in the journal. In the unfinished shard every frame's hash is
 * compared, because after a power cut the journal may name frames that never reached the disk. The first batch with a
 * bad frame ends the recovery, and everything from there on is packed again. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/format/shard.h"
#include "data/format/names.h"
#include "data/write/dataset_writer_internal.h"

/* Whether a file is one that only a killed process leaves: a temporary file of file_write, or a spool file. */
static bool is_leftover(const char *name)
{
    return !strncmp(name, "index.json.tmp-", 15) || !strncmp(name, REPORT_NAME ".tmp-", sizeof REPORT_NAME - 1 + 5) ||
           !strncmp(name, ".spool-", 7);
}

enum status dataset_writer_remove_files(const char *directory, int first_shard)
{
    enum status status = STATUS_OK;
    static const char *const files[] = { "index.json", JOURNAL_NAME, REPORT_NAME };
    char path[PATH_MAX];
    DIR *folder = NULL;
    for (int i = 0; i < (first_shard ? 1 : 3); i++) { /* the index first: without it, what remains is not a dataset */
        dataset_writer_path(directory, files[i], path);
        if (unlink(path) != 0 && errno != ENOENT)
            FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    }
    TRY(file_sync_folder(directory));
    folder = opendir(directory);
    if (!folder)
        FAIL(STATUS_IO, "%s: %s", directory, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[32];
        size_t length = strlen(entry->d_name);
        snprintf(name, sizeof name, "%s", entry->d_name);
        if (length > 4 && length < sizeof name && !strcmp(name + length - 4, ".tmp"))
            name[length - 4] = 0;
        bool ours = length < sizeof name && shard_name_ok(name) && atoi(name + 6) >= first_shard;
        dataset_writer_path(directory, entry->d_name, path);
        if ((ours || is_leftover(entry->d_name)) && unlink(path) != 0)
            FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    }
fail:
    if (folder)
        closedir(folder);
    return status;
}

/* A journal that is being replayed. */
struct replay {
    struct dataset_writer *writer;
    const uint8_t *data;
    size_t bytes;
    struct journal_record *pending; /* (count): batches of the shard that no record has closed yet */
    int count;
    size_t capacity;
    struct journal_record last_good; /* the last record whose data are in the shards */
};

static enum status add_pending(struct replay *r, const struct journal_record *record)
{
    enum status status = STATUS_OK;
    TRY(array_grow(&r->pending, &r->capacity, (size_t)r->count + 1, sizeof *r->pending));
    r->pending[r->count++] = *record;
fail:
    return status;
}

static enum status parse(const struct replay *r, const struct journal_record *record, struct pack_batch *batch)
{
    enum status status = STATUS_OK;
    status = pack_batch_decode(batch, record->payload, record->bytes, r->writer->options.class_count);
    if (status == STATUS_DATA)
        FAIL(STATUS_DATA, "%s/%s: %s; --force starts over", r->writer->directory, JOURNAL_NAME, status_message());
fail:
    return status;
}

/* Compares a shard with the record that closed it; *good tells whether they agree. */
static enum status check_shard(struct replay *r, const struct journal_record *record, bool *good)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    struct shard shard = { .fd = -1 };
    *good = false;
    if (record->bytes != RECORD_SHARD_BYTES)
        FAIL(STATUS_DATA, "%s/%s: not the journal of a packing", r->writer->directory, JOURNAL_NAME);
    TRY(dataset_writer_next_shard(r->writer, path));
    if (shard_open(&shard, path) != STATUS_OK) {
        log_warn("%s; it is packed again", status_message());
        status_clear();
        return STATUS_OK;
    }
    *good = shard.bytes == get64(record->payload) && shard.samples == get64(record->payload + 8) &&
            shard.blocks == get32(record->payload + 16) && shard.hash == get64(record->payload + 24);
    if (!*good)
        log_warn("%s: not the shard that the journal describes; it is packed again", path);
    shard_close(&shard);
fail:
    return status;
}

/* Counts a complete shard and its batches, which are the pending ones. */
static enum status count_shard(struct replay *r, const struct journal_record *record)
{
    enum status status = STATUS_OK;
    struct pack_batch batch = { .next_sample = 0 };
    for (int i = 0; i < r->count; i++) {
        TRY(parse(r, &r->pending[i], &batch));
        TRY(dataset_writer_count_batch(r->writer, &batch));
        pack_batch_finish(&batch);
    }
    r->count = 0;
    dataset_writer_count_shard(r->writer, get64(record->payload), get64(record->payload + 8),
                               get32(record->payload + 16), get64(record->payload + 24));
    r->last_good = *record;
fail:
    pack_batch_finish(&batch);
    return status;
}

static enum status recover_frames(struct shard_writer *shard, const struct pack_batch *batch, bool *good)
{
    enum status status = STATUS_OK;
    *good = true;
    for (int i = 0; i < batch->frame_count && *good; i++)
        TRY(shard_writer_recover(shard, &batch->frames[i], good));
fail:
    return status;
}

/* Keeps those pending batches whose frames are intact in the unfinished shard. */
static enum status recover_unfinished_shard(struct replay *r)
{
    enum status status = STATUS_OK;
    struct dataset_writer *w = r->writer;
    struct pack_batch batch = { .next_sample = 0 };
    char path[PATH_MAX];
    bool good = true;
    TRY(dataset_writer_next_shard(w, path));
    TRY(shard_writer_reopen(&w->shard, path, w->options.codec, &w->shard_open));
    for (int i = 0; i < r->count && w->shard_open && good; i++) {
        struct shard_writer before = w->shard;
        TRY(parse(r, &r->pending[i], &batch));
        TRY(recover_frames(&w->shard, &batch, &good));
        if (good) {
            TRY(dataset_writer_count_batch(w, &batch));
            r->last_good = r->pending[i];
        } else {
            w->shard.offset = before.offset;
            w->shard.samples = before.samples;
            w->shard.blocks = before.blocks;
        }
        pack_batch_finish(&batch);
    }
    if (!w->shard_open)
        shard_writer_finish(&w->shard);
fail:
    pack_batch_finish(&batch);
    return status;
}

static enum status replay(struct replay *r)
{
    enum status status = STATUS_OK;
    struct journal_record record = r->last_good;
    bool good = true;
    while (good && journal_next(r->data, r->bytes, &record)) {
        if (record.type == RECORD_BATCH) {
            TRY(add_pending(r, &record));
        } else if (record.type == RECORD_SHARD) {
            TRY(check_shard(r, &record, &good));
            if (good)
                TRY(count_shard(r, &record));
        } else {
            FAIL(STATUS_DATA, "%s/%s: not the journal of a packing", r->writer->directory, JOURNAL_NAME);
        }
    }
    if (!good)
        r->count = 0; /* the whole shard is packed again */
    TRY(recover_unfinished_shard(r));
fail:
    return status;
}

/* Whether index.json is the one that the recovered packing would write. */
static bool index_agrees(struct dataset_writer *w)
{
    char path[PATH_MAX], *found = NULL, *expected = NULL;
    size_t found_bytes = 0, expected_bytes = 0;
    dataset_writer_path(w->directory, "index.json", path);
    bool agrees = file_exists(path) && file_read(path, LIMIT_INDEX_BYTES, &found, &found_bytes) == STATUS_OK &&
                  (w->index.samples > 0 || w->options.part) &&
                  index_print(&w->index, &expected, &expected_bytes) == STATUS_OK && found_bytes == expected_bytes &&
                  !memcmp(found, expected, found_bytes);
    free(found);
    free(expected);
    status_clear();
    return agrees;
}

enum status dataset_writer_recover(struct dataset_writer *w, bool *found)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *data = NULL;
    struct replay r = { .writer = w };
    uint64_t identity = 0;
    *found = false;
    dataset_writer_path(w->directory, JOURNAL_NAME, path);
    if (!file_exists(path))
        return STATUS_OK;
    TRY(file_read(path, LIMIT_JOURNAL, &data, &r.bytes));
    r.data = (const uint8_t *)data;
    if (!journal_read_header(r.data, r.bytes, &identity, &r.last_good))
        goto fail;
    struct journal_record first = r.last_good;
    if (!journal_next(r.data, r.bytes, &first))
        goto fail; /* the process was killed before it did any work */
    if (identity != w->options.identity) {
        if (!w->options.force)
            FAIL(STATUS_USAGE,
                 "%s: holds the beginning of another packing (other input, options or version); finish that "
                 "one, choose another folder, or replace it with --force",
                 w->directory);
        goto fail;
    }
    TRY(replay(&r));
    w->complete = !w->shard_open && index_agrees(w);
    if (!w->complete)
        TRY(dataset_writer_remove_files(w->directory, w->index.shard_count + 1));
    TRY(journal_reopen(&w->journal, path, &r.last_good));
    *found = true;
fail:
    free(r.pending);
    free(data);
    return status;
}
