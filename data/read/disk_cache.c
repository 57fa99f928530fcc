/* disk_cache.c - keeps the first blocks of the dataset, as many as the budget allows. In random order any part of a
 * dataset is as good as another, and a fixed choice needs neither a list nor eviction. */
#include "data/read/disk_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/format/names.h"

#define PREFIX "csz-"
enum { NAME_LENGTH = sizeof PREFIX - 1 + 16 }; /* with the digits of the fingerprint */

/* Whether this is the name of a cache's folder: "csz-" and 16 hexadecimal digits. */
static bool is_cache_name(const char *name)
{
    return strlen(name) == NAME_LENGTH && !strncmp(name, PREFIX, sizeof PREFIX - 1) &&
           strspn(name + sizeof PREFIX - 1, "0123456789abcdef") == 16;
}

/* The budget that the first user of a cache wrote into its folder; 0 if it cannot be read. */
static uint64_t read_reservation(const char *folder)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    uint64_t value = 0;
    snprintf(path, sizeof path, "%s/reserved", folder);
    if (file_exists(path) && file_read(path, 64, &text, &bytes) == STATUS_OK)
        value = strtoull(text, NULL, 10);
    free(text);
    status_clear();
    return value;
}

/* Removes the files and the folder of a cache. Other files in it stay, and then so does the folder. */
static void remove_cache(const char *folder)
{
    char path[PATH_MAX];
    DIR *handle = opendir(folder);
    if (!handle)
        return;
    for (struct dirent *entry; (entry = readdir(handle));) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (shard_name_ok(entry->d_name) || !strcmp(entry->d_name, "reserved"))
            unlink(path);
    }
    closedir(handle);
    rmdir(folder);
}

/* Sums the budgets of other datasets' caches in `directory`. With `evict`, those that no process uses are removed
 * instead. */
static uint64_t reserved_by_others(const char *directory, const char *own_name, bool evict)
{
    char folder[PATH_MAX];
    uint64_t sum = 0;
    DIR *handle = opendir(directory);
    if (!handle)
        return 0;
    for (struct dirent *entry; (entry = readdir(handle));) {
        if (!is_cache_name(entry->d_name) || !strcmp(entry->d_name, own_name))
            continue;
        if (snprintf(folder, sizeof folder, "%s/%s", directory, entry->d_name) >= PATH_MAX - 32)
            continue;
        int lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (evict && lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) {
            log_info("%s: removed from the cache to free space; no process uses it", folder);
            remove_cache(folder);
        } else {
            sum += read_reservation(folder);
        }
        if (lock >= 0)
            close(lock);
    }
    closedir(handle);
    return sum;
}

/* Opens the files within the budget. If no other process uses the cache, what lies beyond the budget is cut off. */
static enum status open_files(struct disk_cache *c, bool exclusive)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    for (int i = 0; i < c->shards; i++) {
        snprintf(path, sizeof path, "%s/%s", c->folder, c->index->shards[i].name);
        if (c->bytes_before[i] >= c->budget) {
            if (exclusive)
                unlink(path);
            continue;
        }
        c->descriptors[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (c->descriptors[i] < 0)
            FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
        uint64_t allowed = c->budget - c->bytes_before[i];
        if (exclusive && allowed < c->index->shards[i].bytes && ftruncate(c->descriptors[i], (off_t)allowed) != 0)
            FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    }
fail:
    return status;
}

/* Sets the budget: the space that is left, or what earlier users of the cache have set. The caller holds the lock of
 * the directory, so no other process does this at the same time. */
static enum status reserve(struct disk_cache *c, const char *directory, uint64_t limit, uint64_t wanted,
                           const char *name)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], text[32];
    TRY(file_make_folders(c->folder));
    c->lock = open(c->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->lock < 0)
        FAIL(STATUS_IO, "%s: %s", c->folder, strerror(errno));
    bool exclusive = flock(c->lock, LOCK_EX | LOCK_NB) == 0;
    if (exclusive) {
        uint64_t others = reserved_by_others(directory, name, false);
        if (others + wanted > limit)
            others = reserved_by_others(directory, name, true);
        uint64_t available = others < limit ? limit - others : 0;
        c->budget = wanted < available ? wanted : available;
        snprintf(path, sizeof path, "%s/reserved", c->folder);
        snprintf(text, sizeof text, "%llu\n", (unsigned long long)c->budget);
        TRY(file_write(path, text, strlen(text)));
    } else {
        c->budget = read_reservation(c->folder);
    }
    if (flock(c->lock, LOCK_SH) != 0)
        FAIL(STATUS_IO, "%s: cannot lock it: %s", c->folder, strerror(errno));
    TRY(open_files(c, exclusive));
fail:
    return status;
}

enum status disk_cache_open(struct disk_cache **out, const char *directory, uint64_t limit, const struct index *index)
{
    enum status status = STATUS_OK;
    char name[NAME_LENGTH + 1];
    uint64_t total = 0;
    int lock = -1;
    struct disk_cache *c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    c->lock = -1;
    c->index = index;
    snprintf(name, sizeof name, PREFIX "%s", index->hash);
    c->descriptors = malloc((size_t)index->shard_count * sizeof *c->descriptors);
    c->bytes_before = malloc((size_t)index->shard_count * sizeof *c->bytes_before);
    if (!c->descriptors || !c->bytes_before || asprintf(&c->folder, "%s/%s", directory, name) < 0) {
        c->folder = NULL;
        FAIL(STATUS_NOMEM, "%s: out of memory", directory);
    }
    c->shards = index->shard_count;
    for (int i = 0; i < c->shards; i++) {
        c->descriptors[i] = -1;
        c->bytes_before[i] = total;
        total += index->shards[i].bytes;
    }
    if (strlen(c->folder) >= PATH_MAX - 32)
        FAIL(STATUS_IO, "%s: name too long", directory);
    TRY(file_make_folders(directory));
    lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX) != 0)
        FAIL(STATUS_IO, "%s: %s", directory, strerror(errno));
    TRY(reserve(c, directory, limit, total, name));
    *out = c;
    c = NULL;
fail:
    if (lock >= 0)
        close(lock);
    disk_cache_close(c);
    return status;
}

void disk_cache_close(struct disk_cache *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->shards; i++)
        if (c->descriptors[i] >= 0)
            close(c->descriptors[i]);
    if (c->lock >= 0)
        close(c->lock);
    free(c->descriptors);
    free(c->bytes_before);
    free(c->folder);
    free(c);
}

/* Whether the budget covers this block. */
static bool within_budget(const struct disk_cache *c, int shard, const struct shard_entry *block)
{
    return c->descriptors[shard] >= 0 && c->bytes_before[shard] + block->offset + block->bytes <= c->budget;
}

bool disk_cache_get(struct disk_cache *c, int shard, const struct shard_entry *block, void *out)
{
    if (!within_budget(c, shard, block))
        return false;
    bool valid = file_read_at(c->descriptors[shard], out, block->bytes, block->offset) == (ssize_t)block->bytes &&
                 hash_bytes(out, block->bytes) == block->hash;
    atomic_fetch_add(valid ? &c->hits : &c->misses, 1);
    return valid;
}

void disk_cache_put(struct disk_cache *c, int shard, const struct shard_entry *block, const void *data)
{
    if (!within_budget(c, shard, block) || atomic_load(&c->storage_full))
        return;
    /* A failure is no error, since the dataset has the block. */
    if (!file_write_at(c->descriptors[shard], data, block->bytes, block->offset) &&
        !atomic_exchange(&c->storage_full, 1))
        log_warn("%s: %s; no more blocks are cached", c->folder, strerror(errno));
}
