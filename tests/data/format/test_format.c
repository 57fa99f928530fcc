/* test_format.c - what is packed comes back, and a change of any byte is noticed. */
#include <limits.h>
#include <math.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/pixels.h"
#include "data/format/rgbz.h"
#include "data/read/dataset_internal.h"
#include "data/read/loader.h"
#include "data/write/verify.h"
#include "tests/check.h"
#include "tests/data/make.h"

static char folder[64];

/* Encodes images with rgbz and decodes windows of them, with guard bytes around both buffers. */
static void check_rgbz(void)
{
    struct philox stream;
    enum { GUARD = 16, SIDE = 140, MAX_BYTES = SIDE * SIDE * 3 };
    static uint8_t pixels[MAX_BYTES], planes[MAX_BYTES + 2 * GUARD], back[MAX_BYTES + 2 * GUARD];
    philox_init(&stream, 3, PHILOX_DOMAIN_SYNTH, 0);
    for (int n = 0; n < 300; n++) {
        int width = 1 + (int)philox_below(&stream, SIDE), height = 1 + (int)philox_below(&stream, SIDE);
        if (n < 3)
            width = n == 1 ? SIDE : 1, height = n == 2 ? SIDE : 1;
        int band = 1 + (int)philox_below(&stream, SIDE), x = (int)philox_below(&stream, (uint32_t)width);
        int columns = 1 + (int)philox_below(&stream, (uint32_t)(width - x));
        size_t bytes = (size_t)width * height * 3;
        for (size_t i = 0; i < bytes; i++)
            pixels[i] = (uint8_t)philox_u32(&stream);
        memset(planes, 0xa5, sizeof planes);
        rgbz_encode(pixels, width, height, band, planes + GUARD);
        int touched = 0, wrong = 0;
        for (int i = 0; i < GUARD; i++)
            touched += planes[i] != 0xa5 || planes[GUARD + bytes + i] != 0xa5;
        CHECK(planes[GUARD] == pixels[1], "first green is %d", planes[GUARD]);
        for (int top = 0; top < height; top += band) {
            int rows = height - top < band ? height - top : band, from = (int)philox_below(&stream, (uint32_t)rows);
            int to = from + 1 + (int)philox_below(&stream, (uint32_t)(rows - from));
            size_t got = (size_t)columns * (to - from) * 3;
            memset(back, 0x5a, sizeof back);
            rgbz_decode(planes + GUARD + (size_t)top * width * 3, width, rows, x, columns, from, to, back + GUARD);
            for (int y = from; y < to; y++)
                wrong += memcmp(back + GUARD + (size_t)(y - from) * columns * 3,
                                pixels + ((size_t)(top + y) * width + x) * 3, (size_t)columns * 3) != 0;
            for (int i = 0; i < GUARD; i++)
                touched += back[i] != 0x5a || back[GUARD + got + i] != 0x5a;
        }
        CHECK(wrong == 0, "%d x %d in bands of %d: %d rows do not come back", width, height, band, wrong);
        CHECK(touched == 0, "%d x %d: guards overwritten", width, height);
    }
}

/* Every image of a dataset equals the one that was packed. */
static void check_content(const char *path, int64_t count, const int (*sizes)[2], int kinds)
{
    struct dataset *d = NULL;
    struct block_reader reader = { 0 };
    struct block_reader other = { 0 }; /* it opens no block: a worker may decode what others have opened */
    struct block block = { 0 };
    static uint8_t pixels[1 << 20];
    CHECK(dataset_open(&d, path) == STATUS_OK && dataset_samples(d) == count, "%s", status_message());
    for (int64_t i = 0; d && i < count; i++) {
        const int *size = sizes[i % kinds];
        struct sample_location location = dataset_locate(d, i);
        CHECK(dataset_read_block(d, location, &reader, &block) == STATUS_OK, "%s", status_message());
        CHECK(location.sample < block.count, "sample %d of %d", location.sample, block.count);
        const struct block_sample *s = &block.samples[location.sample];
        random_pixels(i, size[0], size[1], pixels);
        CHECK(s->label == i % 3 && s->width == size[0] && s->height == size[1], "image %lld: label %d, %d x %d",
              (long long)i, s->label, s->width, s->height);
        struct view view;
        struct box all = { 0, 0, s->width, s->height };
        CHECK(block_decode_box(&block, location.sample, all, 1, &reader, &view) == STATUS_OK, "%s", status_message());
        CHECK(memcmp(view.pixels, pixels, (size_t)size[0] * size[1] * 3) == 0, "image %lld differs", (long long)i);
        struct box part = { s->width / 3, s->height / 4, s->width - s->width / 3, (s->height + 1) / 2 };
        int wrong = 0;
        CHECK(block_decode_box(&block, location.sample, part, 1, &other, &view) == STATUS_OK, "%s", status_message());
        for (int y = 0; y < part.height; y++)
            wrong += memcmp(view.pixels + y * view.stride, pixels + ((size_t)(part.y + y) * size[0] + part.x) * 3,
                            (size_t)part.width * 3) != 0;
        CHECK(wrong == 0, "image %lld: %d rows of a window differ", (long long)i, wrong);
    }
    block_reader_finish(&reader);
    block_reader_finish(&other);
    block_finish(&block);
    dataset_close(d);
}

static void read_int(const char *path, char **data, size_t *bytes)
{
    if (file_read(path, 1 << 26, data, bytes) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        exit(1);
    }
}

/* All shapes come back, and the files are the same whatever the number of workers. */
static void check_round_trips(void)
{
    static const int shapes[][2] = { { 1, 1 },   { 1, 9 },     { 9, 1 },     { 2, 3 },
                                     { 31, 33 }, { 257, 129 }, { 150, 149 }, { 7, 7 } };
    char one[96], many[96], path[128];
    snprintf(one, sizeof one, "%s/one", folder);
    CHECK(make_dataset(one, 1, shapes, 1, 1) == STATUS_OK, "%s", status_message());
    check_content(one, 1, shapes, 1);
    for (int workers = 1; workers <= 4; workers++) {
        char *data[2], *expected[2];
        size_t bytes[2], length[2];
        snprintf(many, sizeof many, "%s/many-%d", folder, workers);
        CHECK(make_dataset(many, 500, shapes, 8, workers) == STATUS_OK, "%s", status_message());
        check_content(many, 500, shapes, 8);
        for (int f = 0; f < 2; f++) {
            const char *file = f ? "shard-00000.csz" : "index.json";
            snprintf(path, sizeof path, "%s/many-1/%s", folder, file);
            read_int(path, &expected[f], &length[f]);
            snprintf(path, sizeof path, "%s/%s", many, file);
            read_int(path, &data[f], &bytes[f]);
            CHECK(bytes[f] == length[f] && !memcmp(data[f], expected[f], bytes[f]), "%s differs with %d workers", file,
                  workers);
            free(data[f]);
            free(expected[f]);
        }
    }
}

/* Opens a dataset, checks every hash and closes it. */
static enum status examine(const char *path)
{
    struct dataset *d = NULL;
    struct block_reader reader = { 0 };
    enum status status = dataset_open(&d, path);
    for (int s = 0; status == STATUS_OK && s < d->index.shard_count; s++)
        for (uint32_t b = 0; status == STATUS_OK && b < d->shards[s].blocks; b++)
            status = shard_check_block(&d->shards[s], b, &reader);
    block_reader_finish(&reader);
    dataset_close(d);
    return status;
}

static void overwrite(const char *path, const char *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

/* Overwrites one byte in place, which is much faster than writing the whole file. */
static void poke(const char *path, size_t offset, char byte)
{
    FILE *file = fopen(path, "r+b");
    if (!file || fseek(file, (long)offset, SEEK_SET) != 0 || fputc((unsigned char)byte, file) == EOF ||
        fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

/* Every bit flip and every truncation of one file of a small dataset is noticed. */
static void check_damage(const char *set, const char *name)
{
    char path[128], *data;
    size_t bytes;
    int unseen = 0;
    snprintf(path, sizeof path, "%s/%s", set, name);
    read_int(path, &data, &bytes);
    CHECK(examine(set) == STATUS_OK, "%s", status_message());
    for (size_t i = 0; i < bytes; i++) {
        char before = data[i];
        for (int way = 0; way < 3; way++) {
            poke(path, i, (char)(before ^ (way == 0 ? 1 << i % 8 : way == 1 ? 0x20 : 0xff)));
            unseen += examine(set) != STATUS_DATA;
        }
        poke(path, i, before);
    }
    CHECK(unseen == 0, "%s: %d of %zu changes went unseen", name, unseen, 3 * bytes);
    for (size_t length = unseen = 0; length < bytes; length += 1 + length / 300) {
        overwrite(path, data, length);
        unseen += examine(set) != STATUS_DATA;
    }
    CHECK(unseen == 0, "%s: %d truncations went unseen", name, unseen);
    data[bytes] = 'x';
    overwrite(path, data, bytes + 1); /* file_read leaves room for one byte more */
    CHECK(examine(set) == STATUS_DATA, "%s: a byte more went unseen", name);
    CHECK(unlink(path) == 0 && examine(set) == STATUS_IO, "%s is missing, unseen", name);
    CHECK(strstr(status_message(), name), "%s", status_message());
    overwrite(path, data, bytes);
    CHECK(examine(set) == STATUS_OK, "%s", status_message());
    free(data);
}

/* An intact shard of another dataset is not accepted. */
static void check_exchange(const char *set)
{
    static const int other[][2] = { { 3, 5 } };
    char from[128], to[128], kept[128];
    snprintf(from, sizeof from, "%s/other", folder);
    CHECK(make_dataset(from, 9, other, 1, 1) == STATUS_OK, "%s", status_message());
    snprintf(from, sizeof from, "%s/other/shard-00000.csz", folder);
    snprintf(to, sizeof to, "%s/shard-00000.csz", set);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    CHECK(rename(to, kept) == 0 && rename(from, to) == 0, "rename");
    CHECK(examine(set) == STATUS_DATA && strstr(status_message(), "not the shard"), "%s", status_message());
    CHECK(rename(kept, to) == 0 && examine(set) == STATUS_OK, "%s", status_message());
}

/* An index is not accepted with a class name that the format does not allow, even if its hash is right. */
static void check_class_names(void)
{
    static const struct {
        char *name;
        bool allowed;
    } cases[] = { { "plain", true },
                  { "caf\xc3\xa9", true },
                  { "", false },
                  { "a\x01", false },
                  { "a\x7f", false },
                  { "a\xc2\x9b"
                    "31m",
                    false },
                  { "\xc2\xa0", true },
                  { "two\nlines", false } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *names[] = { cases[i].name }, *text = NULL;
        int64_t counts[] = { 5 };
        struct index_shard shard = { "shard-00000.csz", 1000, 5, 1, 1 };
        struct index index = { .codec = CODEC_RGBZ,
                               .samples = 5,
                               .class_count = 1,
                               .class_names = names,
                               .counts = counts,
                               .shard_count = 1,
                               .shards = &shard,
                               .made_by = "a test" },
                     back;
        size_t bytes = 0;
        CHECK(index_print(&index, &text, &bytes) == STATUS_OK, "%s", status_message());
        enum status status = index_parse(&back, text, bytes, "index");
        CHECK(status == (cases[i].allowed ? STATUS_OK : STATUS_DATA), "case %zu: %d", i, status);
        index_finish(&back);
        free(text);
    }
}

static struct loader_config plain(struct dataset *d, bool skip_bad)
{
    return (struct loader_config){
        .dataset = d,
        .image_size = 32,
        .micro_batch = 7,
        .ranks = 1,
        .workers = 2,
        .prefetch = 2,
        .batch = 7,
        .std = { 1, 1, 1 },
        .skip_bad = skip_bad,
    };
}

/* Whether image k of a batch is the one made as `index`. */
static bool holds(const struct micro_batch *b, int k, int64_t index)
{
    uint8_t pixels[32 * 32 * 3];
    const struct image_crop *crops = b->raw;
    bool same = true;
    random_pixels(index, 32, 32, pixels);
    if (b->raw)
        return memcmp((const char *)b->raw + crops[k].offset, pixels, sizeof pixels) == 0;
    for (size_t i = 0; i < sizeof pixels; i++)
        same = same && lrintf(255 * b->images[k * sizeof pixels + i]) == pixels[i];
    return same;
}

/* Evaluation gives every image but those of the damaged block, in order and each with its own pixels, as floats and
 * raw, whatever the micro-batch, of which some are then empty. */
static void check_left_out(struct dataset *d, const struct shard_entry *hit)
{
    for (int micro = 1; micro <= 70; micro = 3 * micro + 1)
        for (int raw = 0; raw < 2; raw++) {
            struct loader *loader = NULL;
            struct loader_stats stats;
            const struct micro_batch *b;
            struct loader_config config = plain(d, true);
            int64_t next = 0;
            config.batch = config.micro_batch = micro;
            config.raw = raw;
            CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
            for (;;) {
                CHECK(loader_next(loader, &b) == STATUS_OK, "%s", status_message());
                if (!b)
                    break;
                CHECK(b->count > 0, "an empty micro-batch");
                for (int k = 0; k < b->count; k++, next++) {
                    next = next == hit->first ? next + hit->samples : next;
                    CHECK(b->ids[k] == (uint64_t)next && b->labels[k] == (int)next % 3, "sample %lld: %llu, label %d",
                          (long long)next, (unsigned long long)b->ids[k], b->labels[k]);
                    CHECK(holds(b, k, next), "pixels of sample %lld", (long long)next);
                }
            }
            CHECK(next == 70, "%lld samples", (long long)next);
            loader_stats(loader, &stats);
            CHECK(stats.work.skipped == hit->samples && stats.work.samples == 70 - hit->samples,
                  "%lld skipped, %lld given", (long long)stats.work.skipped, (long long)stats.work.samples);
            loader_destroy(loader);
        }
}

/* A damaged block stops the loader with shard, block and hashes, or is left out or replaced, and counted. */
static void check_bad_samples(void)
{
    static const int sizes[][2] = { { 32, 32 } };
    char set[96], path[128], *data;
    size_t bytes;
    struct dataset *d = NULL;
    struct loader *loader = NULL;
    struct loader_stats stats;
    const struct micro_batch *b;
    snprintf(set, sizeof set, "%s/bad", folder);
    CHECK(make_dataset(set, 70, sizes, 1, 1) == STATUS_OK && dataset_open(&d, set) == STATUS_OK, "%s",
          status_message());
    const struct shard_entry hit = d->shards[0].table[1];
    snprintf(path, sizeof path, "%s/shard-00000.csz", set);
    read_int(path, &data, &bytes);
    data[hit.offset + hit.bytes / 2] ^= 4;
    overwrite(path, data, bytes);
    struct loader_config config = plain(d, false);
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    for (int64_t i = 0; i < hit.first / 7; i++)
        CHECK(loader_next(loader, &b) == STATUS_OK, "the batches before fail: %s", status_message());
    for (int i = 0; i < 2; i++) { /* the error stays */
        status_clear();
        CHECK(loader_next(loader, &b) == STATUS_DATA && !b, "damage went unseen");
        CHECK(strstr(status_message(), "shard-00000.csz: block 1 at byte ") &&
                  strstr(status_message(), " damaged: expected hash ") && strstr(status_message(), ", found "),
              "%s", status_message());
    }
    loader_destroy(loader);
    check_left_out(d, &hit);
    config = plain(d, true);
    config.training = true;
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    for (int64_t i = 0; i < 70;) {
        CHECK(loader_next(loader, &b) == STATUS_OK && b, "%s", status_message());
        for (int k = 0; k < b->count; k++, i++) {
            bool lost = i >= hit.first && i < hit.first + hit.samples;
            CHECK(b->ids[k] == (lost ? hit.first + hit.samples : (uint64_t)i), "sample %llu",
                  (unsigned long long)b->ids[k]);
            CHECK(b->labels[k] == (int)b->ids[k] % 3, "label %d", b->labels[k]);
        }
    }
    loader_stats(loader, &stats);
    CHECK(stats.work.skipped == hit.samples, "%lld skipped", (long long)stats.work.skipped);
    CHECK(stats.work.rereads >= 1, "the damaged block was not read again");
    loader_destroy(loader);
    struct verify_report report;
    CHECK(dataset_verify(set, false, 2, &report) == STATUS_DATA && report.damaged_blocks == 1 && report.blocks == 4,
          "%lld of %lld", (long long)report.damaged_blocks, (long long)report.blocks);
    dataset_close(d);
    free(data);
}

/* If all blocks are damaged, training fails instead of searching forever, and an evaluation has no image. */
static void check_all_bad(void)
{
    static const int sizes[][2] = { { 32, 32 } };
    char set[96], path[128], *data;
    size_t bytes;
    struct dataset *d = NULL;
    struct loader *loader = NULL;
    const struct micro_batch *b;
    snprintf(set, sizeof set, "%s/all-bad", folder);
    CHECK(make_dataset(set, 40, sizes, 1, 1) == STATUS_OK && dataset_open(&d, set) == STATUS_OK, "%s",
          status_message());
    snprintf(path, sizeof path, "%s/shard-00000.csz", set);
    read_int(path, &data, &bytes);
    for (uint32_t i = 0; i < d->shards[0].blocks; i++)
        data[d->shards[0].table[i].offset] ^= 1;
    overwrite(path, data, bytes);
    struct loader_config config = plain(d, true);
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    CHECK(loader_next(loader, &b) == STATUS_OK && !b, "an evaluation found something: %s", status_message());
    loader_destroy(loader);
    config.training = true;
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    CHECK(loader_next(loader, &b) == STATUS_DATA, "training found something");
    loader_destroy(loader);
    dataset_close(d);
    free(data);
}

/* Whether one changed byte of a shard would reach a batch: the block that holds it, as a loader reads it. */
static bool reaches_a_batch(const char *set, int shard, size_t offset, struct block_reader *reader)
{
    struct dataset *d = NULL;
    enum status status = dataset_open(&d, set); /* checks index, headers and tables */
    for (uint32_t b = 0; status == STATUS_OK && shard >= 0 && b < d->shards[shard].blocks; b++) {
        const struct shard_entry *e = &d->shards[shard].table[b];
        if (offset >= e->offset && offset < e->offset + e->bytes)
            status = shard_check_block(&d->shards[shard], b, reader);
    }
    dataset_close(d);
    return status != STATUS_DATA;
}

/* Changes single random bytes of a file of a large dataset and truncates it. `shard` is the shard's index; -1:
 * index.json. */
static void check_positions(const char *set, const char *name, int shard, int changes, int cuts)
{
    struct block_reader reader = { 0 };
    struct philox stream;
    char path[PATH_MAX], *data;
    size_t bytes;
    int unseen = 0;
    snprintf(path, sizeof path, "%s/%s", set, name);
    read_int(path, &data, &bytes);
    philox_init(&stream, 7, PHILOX_DOMAIN_SYNTH, (uint64_t)(shard + 1));
    for (int i = 0; i < changes; i++) {
        size_t at = (size_t)(philox_uniform(&stream) * (double)bytes);
        poke(path, at, (char)(data[at] ^ (1 + (int)philox_below(&stream, 255))));
        unseen += reaches_a_batch(set, shard, at, &reader);
        poke(path, at, data[at]);
    }
    CHECK(unseen == 0, "%s: %d of %d changes went unseen", name, unseen, changes);
    for (int i = unseen = 0; i < cuts; i++) { /* ever shorter */
        CHECK(truncate(path, (off_t)((double)bytes * (cuts - 1 - i) / cuts)) == 0, "truncate %s", path);
        unseen += reaches_a_batch(set, shard, bytes, &reader);
    }
    CHECK(unseen == 0, "%s: %d of %d truncations went unseen", name, unseen, cuts);
    overwrite(path, data, bytes);
    block_reader_finish(&reader);
    free(data);
}

/* The same for all files of a packed dataset, in proportion to their sizes. The dataset is restored. */
static void check_large(const char *set, int changes)
{
    struct dataset *d = NULL;
    uint64_t bytes = 0;
    CHECK(dataset_open(&d, set) == STATUS_OK, "%s", status_message());
    if (!d)
        return;
    for (int s = 0; s < d->index.shard_count; s++)
        bytes += d->index.shards[s].bytes;
    check_positions(set, "index.json", -1, changes / 10, 100);
    for (int s = 0; s < d->index.shard_count; s++) {
        char name[32];
        snprintf(name, sizeof name, "shard-%05d.csz", s);
        check_positions(set, name, s, (int)(changes * (double)d->index.shards[s].bytes / (double)bytes) + 1, 30);
    }
    CHECK(examine(set) == STATUS_OK, "%s", status_message());
    dataset_close(d);
}

/* test-data-format [SET CHANGES]: tests with small datasets of its own, or changes this many single bytes of SET. */
int main(int argc, char **argv)
{
    static const int tiny[][2] = { { 2, 2 }, { 3, 1 } };
    char set[96];
    log_init("test", 0, 1);
    if (argc == 3) {
        check_large(argv[1], atoi(argv[2]));
        return check_done("format");
    }
    make_folder(folder);
    check_rgbz();
    check_round_trips();
    snprintf(set, sizeof set, "%s/tiny", folder);
    CHECK(make_dataset(set, 9, tiny, 2, 1) == STATUS_OK, "%s", status_message());
    check_damage(set, "index.json");
    check_damage(set, "shard-00000.csz");
    check_exchange(set);
    check_class_names();
    check_bad_samples();
    check_all_bad();
    remove_folder(folder);
    return check_done("format");
}
