/* dataset_writer.c - shards of SHARD_TARGET bytes, each renamed when whole; index.json last. */
#include "data/dataset_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"

enum status dataset_writer_check(const char *directory, bool force)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/index.json", directory) >= PATH_MAX - 32)
        FAIL(STATUS_USAGE, "%s: name too long", directory);
    if (!force && file_exists(path))
        FAIL(STATUS_USAGE, "%s: holds a dataset already; choose another folder, or replace it with --force", directory);
fail:
    return status;
}

/* Removes index.json first, so that a half-removed dataset is none, then shards and unfinished shards. */
static enum status remove_old(const char *directory)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    DIR *folder = NULL;
    snprintf(path, sizeof path, "%s/index.json", directory);
    if (unlink(path) != 0 && errno != ENOENT)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    TRY(file_sync_folder(directory));
    folder = opendir(directory);
    if (!folder)
        FAIL(STATUS_IO, "%s: %s", directory, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[32];
        size_t length = strlen(entry->d_name);
        if (length >= sizeof name)
            continue;
        strcpy(name, entry->d_name);
        if (length > 4 && !strcmp(name + length - 4, ".tmp"))
            name[length - 4] = 0;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (shard_name_ok(name) && unlink(path) != 0)
            FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    }
fail:
    if (folder)
        closedir(folder);
    return status;
}

static enum status copy_names(struct index *index, int classes, char *const *names)
{
    enum status status = STATUS_OK;
    if (classes < 1 || classes > LIMIT_CLASSES)
        FAIL(STATUS_DATA, "%d classes; a dataset has 1 to %d", classes, LIMIT_CLASSES);
    index->names = calloc((size_t)classes, sizeof *index->names);
    index->counts = calloc((size_t)classes, sizeof *index->counts);
    if (!index->names || !index->counts)
        FAIL(STATUS_NOMEM, "out of memory for %d classes", classes);
    index->classes = classes;
    for (int i = 0; i < classes; i++) {
        if (!*names[i] || strlen(names[i]) > LIMIT_NAME || strpbrk(names[i], "\n\r\t\x1b"))
            FAIL(STATUS_DATA, "the name of class %d ('%.64s') is empty, too long or not plain text", i, names[i]);
        index->names[i] = strdup(names[i]);
        if (!index->names[i])
            FAIL(STATUS_NOMEM, "out of memory for %d classes", classes);
    }
fail:
    return status;
}

enum status dataset_writer_init(struct dataset_writer *w, const char *directory, bool force, enum codec codec,
                                int classes, char *const *names, const char *made_by)
{
    enum status status = STATUS_OK;
    *w = (struct dataset_writer){ .lock = -1 };
    TRY(dataset_writer_check(directory, force));
    TRY(file_make_folders(directory));
    w->directory = strdup(directory);
    w->index.made_by = strdup(made_by);
    if (!w->directory || !w->index.made_by)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    w->lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->lock < 0)
        FAIL(STATUS_IO, "%s: %s", directory, strerror(errno));
    if (flock(w->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        FAIL(STATUS_USAGE, "%s: another csc-pack is writing here", directory);
    TRY(copy_names(&w->index, classes, names));
    TRY(remove_old(directory));
    w->index.codec = codec;
    w->index.width = w->index.height = -1; /* not seen yet */
    return STATUS_OK;
fail:
    dataset_writer_finish(w);
    return status;
}

void dataset_writer_count(struct dataset_writer *w, int label, int width, int height)
{
    w->index.counts[label]++;
    if (w->index.width < 0) {
        w->index.width = width;
        w->index.height = height;
    } else if (w->index.width != width || w->index.height != height) {
        w->index.width = w->index.height = 0;
    }
}

static enum status open_shard(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    struct index *index = &w->index;
    if (index->shards > 99999)
        FAIL(STATUS_DATA, "%s: more than 100,000 shards", w->directory);
    struct index_shard *grown = realloc(index->shard, (size_t)(index->shards + 1) * sizeof *grown);
    if (!grown)
        FAIL(STATUS_NOMEM, "%s: out of memory", w->directory);
    index->shard = grown;
    grown[index->shards] = (struct index_shard){ .bytes = 0 };
    snprintf(grown[index->shards].name, sizeof grown->name, "shard-%05d.csz", index->shards);
    snprintf(path, sizeof path, "%s/%s", w->directory, grown[index->shards].name);
    TRY(shard_writer_init(&w->shard, path, index->codec));
    w->shard_open = true;
fail:
    return status;
}

static enum status close_shard(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    struct index_shard *shard = &w->index.shard[w->index.shards];
    TRY(shard_writer_commit(&w->shard));
    shard->bytes = w->shard.offset;
    shard->samples = w->shard.samples;
    shard->blocks = w->shard.blocks;
    shard->hash = w->shard.hash;
    w->index.samples += (int64_t)shard->samples;
    w->index.shards++;
    shard_writer_finish(&w->shard);
    w->shard_open = false;
fail:
    return status;
}

enum status dataset_writer_add(struct dataset_writer *w, const void *frame, uint32_t bytes, uint32_t raw_bytes,
                               uint32_t samples)
{
    enum status status = STATUS_OK;
    if (!w->shard_open)
        TRY(open_shard(w));
    TRY(shard_writer_add(&w->shard, frame, bytes, raw_bytes, samples));
    if (w->shard.offset >= SHARD_TARGET)
        TRY(close_shard(w));
fail:
    return status;
}

enum status dataset_writer_commit(struct dataset_writer *w)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    if (w->shard_open)
        TRY(close_shard(w));
    if (!w->index.samples)
        FAIL(STATUS_DATA, "%s: not written: there is no image to put into it", w->directory);
    TRY(file_sync_folder(w->directory));
    TRY(index_print(&w->index, &text, &bytes));
    snprintf(path, sizeof path, "%s/index.json", w->directory);
    TRY(file_write(path, text, bytes));
fail:
    free(text);
    return status;
}

void dataset_writer_finish(struct dataset_writer *w)
{
    if (w->shard_open)
        shard_writer_finish(&w->shard);
    if (w->directory && w->lock >= 0)
        close(w->lock);
    index_finish(&w->index);
    free(w->directory);
    *w = (struct dataset_writer){ .lock = -1 };
}
