/* merge.c - a part's journal tells which samples its blocks hold. So the batches of all parts, one part after the
 * other, are passed to a dataset_writer as if they had just been packed. */
#include "data/write/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/read/dataset_internal.h"
#include "data/write/dataset_writer_internal.h"
#include "data/write/pack_progress.h"

struct part {
    const char *directory;
    struct dataset *dataset;
    char made_by[512]; /* what an undivided packing would have in its index */
    int part, parts;   /* K and N of --part K/N */
    uint64_t identity; /* of the undivided packing's journal */
    char *journal;
    size_t journal_bytes;
};

/* The next block of a part. */
struct cursor {
    int shard;
    uint32_t block;
};

/* Parses "... --part K/N of HASH", which the part's index has as made_by. */
static enum status parse_made_by(struct part *p)
{
    enum status status = STATUS_OK;
    const char *text = p->dataset->index.made_by, *at = strstr(text, " --part ");
    unsigned long long identity;
    int used = 0;
    if (!at || sscanf(at, " --part %9d/%9d of %16llx%n", &p->part, &p->parts, &identity, &used) != 3 || at[used] ||
        (size_t)(at - text) >= sizeof p->made_by || p->part < 1 || p->part > p->parts)
        FAIL(STATUS_USAGE, "%s: was not packed with --part", p->directory);
    snprintf(p->made_by, sizeof p->made_by, "%.*s", (int)(at - text), text);
    p->identity = identity;
fail:
    return status;
}

static enum status open_part(struct part *p)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    uint64_t identity;
    struct journal_record record;
    TRY(dataset_open_part(&p->dataset, p->directory));
    TRY(parse_made_by(p));
    dataset_writer_path(p->directory, JOURNAL_NAME, path);
    if (!file_exists(path))
        FAIL(STATUS_USAGE, "%s: holds no %s, which merging needs; pack this part again", p->directory, JOURNAL_NAME);
    TRY(file_read(path, LIMIT_JOURNAL, &p->journal, &p->journal_bytes));
    const char *made_by = p->dataset->index.made_by;
    if (!journal_read_header((uint8_t *)p->journal, p->journal_bytes, &identity, &record) ||
        identity != hash_bytes(made_by, strlen(made_by)))
        FAIL(STATUS_DATA, "%s: the journal is damaged, or belongs to another packing", path);
fail:
    return status;
}

static int compare_parts(const void *a, const void *b)
{
    return ((const struct part *)a)->part - ((const struct part *)b)->part;
}

/* Sorts the parts. Fails unless they are all parts of one packing, each once. */
static enum status check_parts(struct part *parts, int count)
{
    enum status status = STATUS_OK;
    qsort(parts, (size_t)count, sizeof *parts, compare_parts);
    for (int i = 0; i < count; i++) {
        if (parts[i].identity != parts[0].identity || parts[i].parts != parts[0].parts)
            FAIL(STATUS_USAGE, "%s and %s are not parts of one packing: their input, options or versions differ",
                 parts[0].directory, parts[i].directory);
        if (i && parts[i].part == parts[i - 1].part)
            FAIL(STATUS_USAGE, "%s and %s are the same part", parts[i - 1].directory, parts[i].directory);
    }
    for (int i = 0; i < parts[0].parts; i++)
        if (i == count || parts[i].part != i + 1)
            FAIL(STATUS_USAGE, "part %d/%d is missing", i + 1, parts[0].parts);
fail:
    return status;
}

/* The shard that holds the part's next block, to which the cursor moves; NULL at the end. */
static const struct shard *next_block(const struct part *p, struct cursor *cursor)
{
    while (cursor->shard < p->dataset->index.shard_count && cursor->block == p->dataset->shards[cursor->shard].blocks)
        *cursor = (struct cursor){ cursor->shard + 1, 0 };
    return cursor->shard < p->dataset->index.shard_count ? &p->dataset->shards[cursor->shard] : NULL;
}

/* Reads the batch's blocks, which are the next ones of the part, into *data, one after the other. */
static enum status read_blocks(const struct part *p, const struct pack_batch *batch, struct cursor *cursor,
                               struct block_reader *reader, uint8_t **data, size_t *capacity)
{
    enum status status = STATUS_OK;
    size_t bytes = 0, done = 0;
    for (int i = 0; i < batch->frame_count; i++)
        bytes += batch->frames[i].bytes;
    TRY(buffer_grow(data, capacity, bytes));
    for (int i = 0; i < batch->frame_count; i++) {
        const struct shard *shard = next_block(p, cursor);
        if (!shard || shard->table[cursor->block].hash != batch->frames[i].hash ||
            shard->table[cursor->block].bytes != batch->frames[i].bytes)
            FAIL(STATUS_DATA, "%s: its journal and its shards disagree; pack this part again", p->directory);
        TRY(shard_check_block(shard, cursor->block, reader));
        memcpy(*data + done, reader->compressed, batch->frames[i].bytes);
        done += batch->frames[i].bytes;
        cursor->block++;
    }
fail:
    return status;
}

static enum status copy_part(const struct part *p, struct dataset_writer *w, struct pack_progress *progress)
{
    enum status status = STATUS_OK;
    const uint8_t *journal = (const uint8_t *)p->journal;
    struct journal_record record;
    struct pack_batch batch = { .next_sample = 0 };
    struct block_reader reader = { 0 };
    struct cursor cursor = { 0, 0 };
    uint8_t *data = NULL;
    size_t capacity = 0;
    uint64_t identity;
    journal_read_header(journal, p->journal_bytes, &identity, &record);
    while (journal_next(journal, p->journal_bytes, &record)) {
        if (record.type != RECORD_BATCH)
            continue;
        TRY(pack_batch_decode(&batch, record.payload, record.bytes, w->index.class_count));
        if (batch.next_sample <= w->next_sample) { /* merged before an interruption */
            for (int i = 0; i < batch.frame_count; i++)
                cursor.block += next_block(p, &cursor) != NULL;
        } else {
            TRY(read_blocks(p, &batch, &cursor, &reader, &data, &capacity));
            TRY(dataset_writer_add(w, &batch, data));
            pack_progress_update(progress, w->next_sample, w->bytes);
        }
        pack_batch_finish(&batch);
    }
    if (next_block(p, &cursor))
        FAIL(STATUS_DATA, "%s: its journal ends before its shards; pack this part again", p->directory);
fail:
    pack_batch_finish(&batch);
    block_reader_finish(&reader);
    free(data);
    return status;
}

static uint64_t shard_bytes_of(const char *made_by)
{
    const char *at = strstr(made_by, " --shard-mb ");
    unsigned long long megabytes = at ? strtoull(at + 12, NULL, 10) : 0;
    return megabytes ? megabytes << 20 : SHARD_TARGET;
}

static enum status write_merged(struct part *parts, int count, const char *directory, const struct pack_options *o,
                                struct pack_report *r)
{
    enum status status = STATUS_OK;
    const struct index *index = &parts[0].dataset->index;
    struct dataset_writer w = { .lock = -1 };
    struct pack_progress progress = { .what = directory };
    struct dataset_writer_options writer_options = { .force = o->force,
                                                     .keep_journal = o->keep_journal,
                                                     .codec = index->codec,
                                                     .class_count = index->class_count,
                                                     .class_names = index->class_names,
                                                     .made_by = parts[0].made_by,
                                                     .identity = parts[0].identity,
                                                     .shard_bytes = shard_bytes_of(parts[0].made_by) };
    TRY(dataset_writer_init(&w, directory, &writer_options));
    pack_progress_start(&progress, directory, 0);
    for (int i = 0; i < count && !w.complete; i++)
        TRY(copy_part(&parts[i], &w, &progress));
    pack_report_fill(r, &w);
    TRY(dataset_writer_commit(&w));
fail:
    r->seconds = pack_progress_end(&progress);
    dataset_writer_finish(&w);
    return status;
}

enum status merge_parts(char *const *directories, int count, const char *directory, const struct pack_options *options,
                        struct pack_report *report)
{
    enum status status = STATUS_OK;
    struct part *parts = calloc((size_t)count, sizeof *parts);
    *report = (struct pack_report){ 0 };
    if (!parts)
        FAIL(STATUS_NOMEM, "out of memory for %d parts", count);
    for (int i = 0; i < count; i++) {
        parts[i].directory = directories[i];
        TRY(open_part(&parts[i]));
    }
    TRY(check_parts(parts, count));
    TRY(write_merged(parts, count, directory, options, report));
fail:
    for (int i = 0; parts && i < count; i++) {
        dataset_close(parts[i].dataset);
        free(parts[i].journal);
    }
    free(parts);
    return status;
}
