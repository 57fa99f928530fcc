/* dataset_writer.c - a batch's frames go into the open shard first, then its record into the journal, then its samples
 * are counted. A full shard is renamed to its final name. Report and index are written last. */
#include "data/write/dataset_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/format/names.h"
#include "data/write/dataset_writer_internal.h"

enum { SYNC_SECONDS = 10 }; /* the most work that a power cut can lose; a kill loses none */

bool dataset_writer_path(const char *directory, const char *name, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX - 32;
}

static bool has_file(const char *directory, const char *name)
{
    char path[PATH_MAX];
    return dataset_writer_path(directory, name, path) && file_exists(path);
}

bool dataset_writer_has_index(const char *directory)
{
    return has_file(directory, "index.json");
}

bool dataset_writer_has_journal(const char *directory)
{
    return has_file(directory, JOURNAL_NAME);
}

enum status dataset_writer_check_folder(const char *directory, bool force)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    if (!dataset_writer_path(directory, "index.json", path))
        FAIL(STATUS_USAGE, "%s: name too long", directory);
    if (!force && dataset_writer_has_index(directory) && !dataset_writer_has_journal(directory))
        FAIL(STATUS_USAGE, "%s: holds a dataset already; choose another folder, or replace it with --force", directory);
fail:
    return status;
}

/* Fails with the name in the message, where bytes that are not plain text are written as \xNN. */
static enum status refuse_name(int class, const char *name)
{
    enum status status = STATUS_OK;
    char text[4 * 64 + 1] = "";
    for (int i = 0, at = 0; i < 64 && name[i]; i++) {
        unsigned char c = (unsigned char)name[i];
        at += snprintf(text + at, sizeof text - (size_t)at, c < ' ' || c > 126 ? "\\x%02x" : "%c", c);
    }
    FAIL(STATUS_DATA, "the name of class %d, '%s', is empty, too long, or not plain text in UTF-8; rename it", class,
         text);
fail:
    return status;
}

static enum status copy_names(struct index *index, int classes, char *const *names)
{
    enum status status = STATUS_OK;
    if (classes < 1 || classes > LIMIT_CLASSES)
        FAIL(STATUS_DATA, "%d classes; a dataset has 1 to %d", classes, LIMIT_CLASSES);
    for (int i = 0; i < classes; i++)
        if (!class_name_ok(names[i]))
            TRY(refuse_name(i, names[i]));
    TRY(strings_copy(&index->class_names, names, classes));
    index->class_count = classes;
    index->counts = calloc((size_t)classes, sizeof *index->counts);
    if (!index->counts)
        FAIL(STATUS_NOMEM, "out of memory for %d classes", classes);
fail:
    return status;
}

static enum status lock_folder(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    w->lock = open(w->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->lock < 0)
        FAIL(STATUS_IO, "%s: %s", w->directory, strerror(errno));
    if (flock(w->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        FAIL(STATUS_USAGE, "%s: another csc-pack is writing here", w->directory);
fail:
    return status;
}

/* Continues an interrupted packing, or removes what is in the folder and begins a new one. */
static enum status begin(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    bool found = false;
    TRY(dataset_writer_recover(w, &found));
    if (found)
        return STATUS_OK;
    TRY(dataset_writer_remove_files(w->directory, 0));
    dataset_writer_path(w->directory, JOURNAL_NAME, path);
    TRY(journal_create(&w->journal, path, w->options.identity));
    TRY(file_sync_folder(w->directory));
fail:
    return status;
}

enum status dataset_writer_init(struct dataset_writer *w, const char *directory,
                                const struct dataset_writer_options *options)
{
    enum status status = STATUS_OK;
    *w = (struct dataset_writer){ .lock = -1, .options = *options, .last_sync = clock_seconds() };
    w->index.codec = options->codec;
    w->index.width = w->index.height = -1; /* not known yet */
    TRY(dataset_writer_check_folder(directory, options->force));
    TRY(copy_names(&w->index, options->class_count, options->class_names));
    TRY(file_make_folders(directory));
    w->directory = strdup(directory);
    w->index.made_by = strdup(options->made_by);
    if (!w->directory || !w->index.made_by)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    TRY(lock_folder(w));
    TRY(begin(w));
    return STATUS_OK;
fail:
    dataset_writer_finish(w);
    return status;
}

/* Adds a line to the report: the name, a tab, and what was done. Control characters become '?'. */
static enum status report_line(struct dataset_writer *w, const struct pack_batch_sample *s)
{
    enum status status = STATUS_OK;
    size_t needed = w->report_bytes + strlen(s->name) + strlen("\tconverted: ") + strlen(s->reason) + strlen("\n") + 1;
    for (int n = 0; n < IMAGE_NOTES; n++)
        needed += strlen(image_note_text((enum image_note)n)) + strlen(", ");
    TRY(array_grow(&w->report, &w->report_capacity, needed, 1));
    char *line = w->report + w->report_bytes, *end = line;
    for (const char *c = s->name; *c; c++)
        *end++ = (unsigned char)*c < ' ' || *c == 127 ? '?' : *c;
    char *words = stpcpy(end, *s->reason                       ? "\tleft out: "
                              : w->options.codec == CODEC_JPEG ? "\tkept: "
                                                               : "\tconverted: ");
    end = stpcpy(words, s->reason);
    for (int n = 0; n < IMAGE_NOTES && !*s->reason; n++)
        if (n != NOTE_RESIZED && s->notes >> n & 1)
            end = stpcpy(stpcpy(end, end > words ? ", " : ""), image_note_text(n));
    for (char *c = words; c < end; c++)
        *c = (unsigned char)*c < ' ' || *c == 127 ? '?' : *c;
    *end++ = '\n';
    w->report_bytes += (size_t)(end - line);
fail:
    return status;
}

static enum status count_sample(struct dataset_writer *w, const struct pack_batch_sample *s)
{
    enum status status = STATUS_OK;
    if (pack_batch_sample_is_reported(s))
        TRY(report_line(w, s));
    if (*s->reason) {
        *(strcmp(s->reason, PACK_NOT_AN_IMAGE) ? &w->skipped : &w->non_images) += 1;
        return STATUS_OK;
    }
    for (int n = 0; n < IMAGE_NOTES; n++)
        w->notes[n] += s->notes >> n & 1;
    w->index.counts[s->label]++;
    if (w->index.width < 0) {
        w->index.width = s->width;
        w->index.height = s->height;
    } else if (w->index.width != s->width || w->index.height != s->height) {
        w->index.width = w->index.height = 0;
    }
fail:
    return status;
}

enum status dataset_writer_count_batch(struct dataset_writer *w, const struct pack_batch *batch)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < batch->count; i++)
        TRY(count_sample(w, &batch->samples[i]));
    for (int i = 0; i < batch->frame_count; i++) {
        w->bytes += batch->frames[i].bytes;
        w->raw_bytes += batch->frames[i].raw_bytes;
    }
    w->next_sample = batch->next_sample;
fail:
    return status;
}

enum status dataset_writer_next_shard(struct dataset_writer *w, char path[PATH_MAX])
{
    enum status status = STATUS_OK;
    struct index *index = &w->index;
    if (index->shard_count > 99999)
        FAIL(STATUS_DATA, "%s: more than 100,000 shards", w->directory);
    TRY(array_grow(&index->shards, &w->shard_capacity, (size_t)index->shard_count + 1, sizeof *index->shards));
    struct index_shard *shard = &index->shards[index->shard_count];
    *shard = (struct index_shard){ .bytes = 0 };
    snprintf(shard->name, sizeof shard->name, "shard-%05d.csz", index->shard_count);
    dataset_writer_path(w->directory, shard->name, path);
fail:
    return status;
}

void dataset_writer_count_shard(struct dataset_writer *w, uint64_t bytes, uint64_t samples, uint32_t blocks,
                                uint64_t hash)
{
    struct index_shard *shard = &w->index.shards[w->index.shard_count++];
    shard->bytes = bytes;
    shard->samples = samples;
    shard->blocks = blocks;
    shard->hash = hash;
    w->index.samples += (int64_t)samples;
}

static enum status close_shard(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    uint8_t record[RECORD_SHARD_BYTES] = { 0 };
    struct shard_writer *s = &w->shard;
    TRY(shard_writer_commit(s));
    TRY(file_sync_folder(w->directory));
    put64(record, s->offset);
    put64(record + 8, s->samples);
    put32(record + 16, s->blocks);
    put64(record + 24, s->hash);
    TRY(journal_append(&w->journal, RECORD_SHARD, record, sizeof record));
    TRY(journal_sync(&w->journal));
    dataset_writer_count_shard(w, s->offset, s->samples, s->blocks, s->hash);
    shard_writer_finish(s);
    w->shard_open = false;
fail:
    return status;
}

static enum status open_shard(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(dataset_writer_next_shard(w, path));
    TRY(shard_writer_init(&w->shard, path, w->options.codec));
    w->shard_open = true;
fail:
    return status;
}

static enum status sync_if_due(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    if (clock_seconds() - w->last_sync < SYNC_SECONDS)
        return STATUS_OK;
    if (w->shard_open)
        TRY(shard_writer_sync(&w->shard));
    TRY(journal_sync(&w->journal));
    w->last_sync = clock_seconds();
fail:
    return status;
}

enum status dataset_writer_add(struct dataset_writer *w, const struct pack_batch *batch, const uint8_t *data)
{
    enum status status = STATUS_OK;
    uint8_t *record = NULL;
    size_t bytes = 0;
    if (w->shard_open && w->shard.offset >= w->options.shard_bytes)
        TRY(close_shard(w));
    if (!w->shard_open && batch->frame_count)
        TRY(open_shard(w));
    for (int i = 0; i < batch->frame_count; data += batch->frames[i++].bytes)
        TRY(shard_writer_add(&w->shard, data, &batch->frames[i]));
    TRY(pack_batch_encode(batch, &record, &bytes));
    TRY(journal_append(&w->journal, RECORD_BATCH, record, (uint32_t)bytes));
    TRY(dataset_writer_count_batch(w, batch));
    TRY(sync_if_due(w));
fail:
    free(record);
    return status;
}

static enum status write_index(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    dataset_writer_path(w->directory, REPORT_NAME, path);
    if (w->report_bytes)
        TRY(file_write(path, w->report, w->report_bytes));
    TRY(index_print(&w->index, &text, &bytes));
    dataset_writer_path(w->directory, "index.json", path);
    TRY(file_write(path, text, bytes));
fail:
    free(text);
    return status;
}

static void warn_of_empty_classes(const struct dataset_writer *w)
{
    int empty = 0, first = 0;
    for (int c = w->index.class_count - 1; c >= 0; c--)
        if (!w->index.counts[c]) {
            empty++;
            first = c;
        }
    if (empty)
        log_warn("%s: %d of %d classes have no image, such as '%s'", w->directory, empty, w->index.class_count,
                 w->index.class_names[first]);
}

enum status dataset_writer_commit(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    if (w->shard_open && w->shard.blocks)
        TRY(close_shard(w));
    else if (w->shard_open)
        unlink(w->shard.temporary); /* recovered, but without any intact block */
    if (!w->index.samples && !w->options.part)
        FAIL(STATUS_DATA, "%s: not written, because there is no image for it", w->directory);
    if (!w->complete)
        TRY(write_index(w));
    if (!w->options.part)
        warn_of_empty_classes(w);
    if (!w->options.keep_journal)
        TRY(dataset_writer_remove_journal(w->directory));
fail:
    return status;
}

enum status dataset_writer_remove_journal(const char *directory)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    dataset_writer_path(directory, JOURNAL_NAME, path);
    if (unlink(path) != 0 && errno != ENOENT)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    TRY(file_sync_folder(directory));
fail:
    return status;
}

void dataset_writer_finish(struct dataset_writer *w)
{
    shard_writer_finish(&w->shard);
    journal_close(&w->journal);
    if (w->directory && w->lock >= 0)
        close(w->lock);
    index_finish(&w->index);
    free(w->directory);
    free(w->report);
    *w = (struct dataset_writer){ .lock = -1 };
}
