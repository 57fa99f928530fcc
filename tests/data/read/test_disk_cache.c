/* test_disk_cache.c - the disk cache is used, checked, limited and shared, and its bytes are never trusted. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "data/read/dataset_internal.h"
#include "tests/check.h"
#include "tests/data/make.h"

static char folder[64], set[96], cache[96];
static const int sizes[][2] = { { 150, 160 }, { 40, 40 } };
enum { IMAGES = 24 };

/* Reads every block; the samples must be the ones that were packed. */
static void read_all(struct dataset *d)
{
    struct block_reader reader = { 0 };
    struct block block = { 0 };
    static uint8_t pixels[150 * 160 * 3];
    for (int64_t i = 0; i < IMAGES; i++) {
        const int *size = sizes[i % 2];
        struct view view = { NULL, 0, 0, 0 };
        struct sample_location location = dataset_locate(d, i);
        CHECK(dataset_read_block(d, location, &reader, &block) == STATUS_OK, "%s", status_message());
        struct box all = { 0, 0, size[0], size[1] };
        CHECK(block_decode_box(&block, location.sample, all, 1, &reader, &view) == STATUS_OK, "%s", status_message());
        random_pixels(i, size[0], size[1], pixels);
        CHECK(view.pixels && !memcmp(view.pixels, pixels, (size_t)size[0] * size[1] * 3), "image %lld", (long long)i);
    }
    block_reader_finish(&reader);
    block_finish(&block);
}

static struct dataset *open_set(uint64_t limit)
{
    struct dataset *d = NULL;
    CHECK(dataset_open(&d, set) == STATUS_OK && dataset_use_disk_cache(d, cache, limit) == STATUS_OK, "%s",
          status_message());
    return d;
}

/* Opens the dataset and reads all of it. Returns how often the cache had a block. */
static int64_t run(uint64_t limit, int64_t *misses)
{
    struct dataset *d = open_set(limit);
    read_all(d);
    int64_t hits = d->disk_cache->hits;
    *misses = d->disk_cache->misses;
    dataset_close(d);
    return hits;
}

/* The bytes that a folder of files takes. */
static uint64_t used(void)
{
    char command[256], line[64] = "";
    snprintf(command, sizeof command,
             "du -s -B1 --apparent-size '%s'/csz-*/shard-* | awk '{ s += $1 } END { print s + 0 }'", cache);
    FILE *pipe = popen(command, "r");
    if (!pipe || !fgets(line, sizeof line, pipe))
        CHECK(false, "%s", command);
    if (pipe)
        pclose(pipe);
    return strtoull(line, NULL, 10);
}

static void cached_path(char path[256], const struct dataset *d)
{
    snprintf(path, 256, "%s/csz-%s/shard-00000.csz", cache, dataset_fingerprint(d));
}

static void poke(const char *path, off_t offset, int count)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    for (int i = 0; i < count; i++) {
        CHECK(pread(fd, &byte, 1, offset + i) == 1, "%s is shorter than %lld", path, (long long)offset);
        byte ^= 0x40;
        CHECK(pwrite(fd, &byte, 1, offset + i) == 1, "%s", path);
    }
    close(fd);
}

/* The first pass fills the cache, and the second one reads all from it. */
static void check_use(void)
{
    int64_t misses, blocks;
    struct dataset *d = open_set(1 << 30);
    blocks = dataset_blocks(d);
    read_all(d);
    CHECK(d->disk_cache->hits == IMAGES - blocks && d->disk_cache->misses == blocks, "%lld hits, %lld misses at first",
          (long long)d->disk_cache->hits, (long long)d->disk_cache->misses);
    dataset_close(d);
    CHECK(run(1 << 30, &misses) == IMAGES && misses == 0, "%lld misses when full", (long long)misses);
}

/* A damaged block in the cache is noticed, read from the dataset and written anew. */
static void check_damage(void)
{
    char path[256];
    int64_t misses;
    struct dataset *d = open_set(1 << 30);
    cached_path(path, d);
    const struct shard_entry *e = &d->shards[0].table[3];
    uint64_t inside = e->offset + e->bytes / 3, end = d->shards[0].table[5].offset + 1;
    dataset_close(d);
    poke(path, (off_t)inside, 1);
    CHECK(run(1 << 30, &misses) == IMAGES - 1 && misses == 1, "%lld misses after a flipped bit", (long long)misses);
    CHECK(run(1 << 30, &misses) == IMAGES && misses == 0, "%lld misses after it was mended", (long long)misses);
    CHECK(truncate(path, (off_t)end) == 0, "truncate");
    CHECK(run(1 << 30, &misses) < IMAGES && misses > 0, "nothing is missed after truncation");
    CHECK(run(1 << 30, &misses) == IMAGES && misses == 0, "%lld misses after that was mended", (long long)misses);
}

/* With two users at once, the first reads what the second has filled. */
static void check_shared(void)
{
    struct dataset *a, *b;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", cache);
    CHECK(system(command) == 0, "%s", command);
    a = open_set(1 << 30);
    b = open_set(1); /* it joins, so the limit of the first one counts */
    CHECK(a->disk_cache->budget == b->disk_cache->budget, "two limits for one cache");
    read_all(b);
    read_all(a);
    CHECK(a->disk_cache->hits == IMAGES && b->disk_cache->misses == dataset_blocks(b), "%lld hits",
          (long long)a->disk_cache->hits);
    dataset_close(b);
    dataset_close(a);
}

/* At most `limit` bytes are used, for the blocks that fit. A smaller limit later shortens the files. */
static void check_limit(void)
{
    int64_t misses;
    struct dataset *d = open_set(1 << 30);
    uint64_t all = d->index.shards[0].bytes, half = all / 2;
    dataset_close(d);
    CHECK(run(half, &misses) < IMAGES, "everything fits into a half");
    CHECK(used() <= half, "%llu bytes are used, but %llu are allowed", (unsigned long long)used(),
          (unsigned long long)half);
    int64_t hits = run(half, &misses);
    CHECK(hits > 0 && hits < IMAGES && misses == 0, "%lld hits", (long long)hits);
    CHECK(run(10, &misses) == 0 && misses == 0 && used() <= 10, "%llu bytes", (unsigned long long)used());
}

/* An unused cache of another dataset is removed for space. One in use stays and counts against the limit. */
static void check_others(void)
{
    char other[96];
    struct dataset *d = open_set(1 << 30), *o = NULL;
    uint64_t bytes = d->index.shards[0].bytes;
    read_all(d);
    snprintf(other, sizeof other, "%s/other", folder);
    CHECK(make_dataset(other, IMAGES + 2, sizes, 2, 1) == STATUS_OK && dataset_open(&o, other) == STATUS_OK, "%s",
          status_message());
    CHECK(dataset_use_disk_cache(o, cache, bytes + bytes / 2) == STATUS_OK, "%s", status_message());
    CHECK(o->disk_cache->budget == bytes / 2, "%llu of %llu", (unsigned long long)o->disk_cache->budget,
          (unsigned long long)bytes / 2);
    dataset_close(o);
    dataset_close(d);
    CHECK(dataset_open(&o, other) == STATUS_OK && dataset_use_disk_cache(o, cache, bytes + bytes / 2) == STATUS_OK,
          "%s", status_message());
    CHECK(o->disk_cache->budget == o->index.shards[0].bytes, "%llu", (unsigned long long)o->disk_cache->budget);
    CHECK(used() <= o->index.shards[0].bytes, "the unused cache is still there");
    dataset_close(o);
}

/* If the cache cannot be made, the error names it. */
static void check_refusal(void)
{
    struct dataset *d = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/index.json/below", set);
    CHECK(dataset_open(&d, set) == STATUS_OK, "%s", status_message());
    CHECK(dataset_use_disk_cache(d, path, 1 << 20) == STATUS_IO && strstr(status_message(), "index.json"), "%s",
          status_message());
    dataset_close(d);
}

int main(void)
{
    log_init("test", 0, 1);
    make_folder(folder);
    snprintf(set, sizeof set, "%s/set", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    CHECK(make_dataset(set, IMAGES, sizes, 2, 1) == STATUS_OK, "%s", status_message());
    check_use();
    check_damage();
    check_shared();
    check_limit();
    check_others();
    check_refusal();
    remove_folder(folder);
    return check_done("cache");
}
