/* fuzz_shard.c - reads any bytes as a shard (first byte modulo 4 is 0), as a shard whose hashes are corrected so that
 * table and blocks are reached (1), or as the records of an rgbz (2) or jpeg (3) block. What is accepted must be inside
 * its buffers, and any box of it must decode. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "data/format/shard.h"
#include "tests/data/make.h"
#include "tests/fuzz/fuzz.h"

enum { CLASSES = 3 };

/* A small shard, which is made once. */
static const char *small_shard(size_t *bytes)
{
    static const int sizes[][2] = { { 3, 2 }, { 1, 1 }, { 20, 5 }, { 2, 67 } };
    static char *data;
    static size_t length;
    char folder[64], path[96];
    if (!data) {
        make_folder(folder);
        snprintf(path, sizeof path, "%s/set/shard-00000.csz", folder);
        *strrchr(path, '/') = 0;
        enum status status = make_dataset(path, 5, sizes, 4, 1);
        path[strlen(path)] = '/';
        if (status != STATUS_OK || file_read(path, 1 << 20, &data, &length) != STATUS_OK)
            abort();
        remove_folder(folder);
    }
    *bytes = length;
    return data;
}

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    size_t bytes = 0;
    if (index > 3)
        return 0;
    out[0] = (unsigned char)index;
    if (index < 2) {
        const char *shard = small_shard(&bytes);
        if (bytes >= capacity)
            return 0;
        memcpy(out + 1, shard, bytes);
        return 1 + bytes;
    }
    for (int i = 0; i < 3; i++) {
        uint8_t pixels[4 * 3 * 3];
        random_pixels(i, 1 + i, 3, pixels);
        struct record_input input = { i, 1 + i, 3, pixels, pixels, sizeof pixels };
        enum codec codec = index == 2 ? CODEC_RGBZ : CODEC_JPEG;
        record_write(out + 1 + bytes, codec, &input);
        bytes += record_bytes(codec, &input);
    }
    return 1 + bytes;
}

/* Corrects every hash whose offsets are inside the data. */
static void repair(uint8_t *data, size_t bytes)
{
    if (bytes < SHARD_HEADER_BYTES)
        return;
    uint64_t table = get64(data + 24);
    if (table > bytes)
        return;
    for (uint64_t at = table; at + SHARD_ENTRY_BYTES <= bytes; at += SHARD_ENTRY_BYTES) {
        uint64_t offset = get64(data + at), length = get32(data + at + 8);
        if (offset <= bytes && length <= bytes - offset)
            put64(data + at + 24, hash_bytes(data + offset, length));
    }
    memset(data + 56, 0, 8);
    uint8_t *both = malloc(SHARD_HEADER_BYTES + bytes - table);
    if (!both)
        abort();
    memcpy(both, data, SHARD_HEADER_BYTES);
    memcpy(both + SHARD_HEADER_BYTES, data + table, bytes - table);
    put64(data + 56, hash_bytes(both, SHARD_HEADER_BYTES + bytes - table));
    free(both);
}

/* Decodes the whole of each sample and a part of it; a sanitizer notices reads beyond the buffers. */
static void check_block(const struct block *block, struct block_reader *reader)
{
    for (int i = 0; i < block->count; i++) {
        const struct block_sample *s = &block->samples[i];
        struct box boxes[] = { { 0, 0, s->width, s->height },
                               { s->width / 2, s->height / 3, (s->width + 1) / 2, (s->height + 1) / 2 } };
        if (s->label < 0 || s->label >= CLASSES || (int64_t)s->width * s->height > 1 << 20)
            return; /* larger ones only cost time */
        for (int k = 0; k < 2; k++) {
            struct view view;
            enum status status = block_decode_box(block, i, boxes[k], 1, reader, &view);
            if (status != STATUS_OK && status != STATUS_DATA)
                abort();
            for (int y = 0; status == STATUS_OK && y < view.height; y++)
                hash_bytes(view.pixels + (size_t)y * view.stride, (size_t)view.width * 3);
        }
    }
}

/* Opens records as a block of `count` samples. */
static void try_records(const uint8_t *data, size_t bytes, uint32_t count, enum codec codec)
{
    struct block block = { 0 };
    struct block_reader reader = { 0 };
    size_t bound = ZSTD_compressBound(bytes);
    if (buffer_grow(&reader.compressed, &reader.compressed_capacity, bound) != STATUS_OK)
        abort();
    size_t length = ZSTD_compress(reader.compressed, bound, data, bytes, 1);
    struct block_info facts = { codec, length, bytes, count, CLASSES, "fuzz", 0 };
    if (block_open(&block, &reader, &facts) == STATUS_OK)
        check_block(&block, &reader);
    block_finish(&block);
    block_reader_finish(&reader);
}

static void try_shard(const uint8_t *data, size_t bytes)
{
    struct shard shard;
    struct block_reader reader = { 0 };
    struct block block = { 0 };
    char path[64];
    int fd = memfd_create("shard", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum status status = shard_open(&shard, path);
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    for (uint32_t b = 0; status == STATUS_OK && b < shard.blocks; b++) {
        enum status read = shard_read_block(&shard, b, CLASSES, &reader, &block);
        if (read != STATUS_OK && read != STATUS_DATA)
            abort();
        if (read == STATUS_OK && block.count != (int)shard.table[b].samples)
            abort();
        if (read == STATUS_OK)
            check_block(&block, &reader);
    }
    shard_close(&shard);
    close(fd);
    block_reader_finish(&reader);
    block_finish(&block);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (!size)
        return 0;
    size_t bytes = size - 1;
    uint8_t *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        abort();
    memcpy(copy, data + 1, bytes);
    for (uint32_t count = 1; data[0] % 4 > 1 && count < 5; count++)
        try_records(copy, bytes, count, data[0] % 4 == 2 ? CODEC_RGBZ : CODEC_JPEG);
    if (data[0] % 4 == 1)
        repair(copy, bytes);
    if (data[0] % 4 < 2)
        try_shard(copy, bytes);
    free(copy);
    return 0;
}
