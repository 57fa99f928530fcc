/* fuzz_shard.c - any bytes as a shard (first byte 0 of 3), as a shard whose hashes are put right so that
 * table and frames are reached (1), or as a decompressed block (2). What is accepted lies inside its buffers. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "data/shard.h"
#include "tests/data/make.h"
#include "tests/trainer/fuzz.h"

enum { CLASSES = 3 };

/* A small shard, made once. */
static const char *small_shard(size_t *bytes)
{
    static const int sizes[][2] = { { 3, 2 }, { 1, 1 }, { 20, 5 } };
    static char *data;
    static size_t length;
    char folder[64], path[96];
    if (!data) {
        make_folder(folder);
        snprintf(path, sizeof path, "%s/set/shard-00000.csz", folder);
        *strrchr(path, '/') = 0;
        enum status status = make_dataset(path, 5, sizes, 3, 1);
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
    if (index > 2)
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
        struct image image = { 1 + i, 3, pixels, sizeof pixels };
        made_pixels(i, 1 + i, 3, pixels);
        block_append(out + 1 + bytes, i, &image);
        bytes += block_record_bytes(1 + i, 3);
    }
    return 1 + bytes;
}

/* Every hash becomes right as far as the offsets lie inside. */
static void repair(uint8_t *data, size_t bytes)
{
    if (bytes < HEADER_BYTES)
        return;
    uint64_t table = get64(data + 24);
    if (table > bytes)
        return;
    for (uint64_t at = table; at + ENTRY_BYTES <= bytes; at += ENTRY_BYTES) {
        uint64_t offset = get64(data + at), length = get32(data + at + 8);
        if (offset <= bytes && length <= bytes - offset)
            put64(data + at + 24, hash_bytes(data + offset, length));
    }
    memset(data + 56, 0, 8);
    uint8_t *both = malloc(HEADER_BYTES + bytes - table);
    if (!both)
        abort();
    memcpy(both, data, HEADER_BYTES);
    memcpy(both + HEADER_BYTES, data + table, bytes - table);
    put64(data + 56, hash_bytes(both, HEADER_BYTES + bytes - table));
    free(both);
}

static void check_block(const struct block *block)
{
    for (int i = 0; i < block->count; i++) {
        const struct block_sample *s = &block->samples[i];
        size_t bytes = (size_t)s->width * s->height * 3;
        if (s->label < 0 || s->label >= CLASSES || s->offset + bytes > block->pixels_bytes)
            abort();
        hash_bytes(block->pixels + s->offset, bytes); /* a sanitizer sees whether it is all there */
    }
}

static void try_shard(const uint8_t *data, size_t bytes)
{
    struct shard shard;
    struct shard_reader reader = { 0 };
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
            check_block(&block);
    }
    shard_close(&shard);
    close(fd);
    shard_reader_finish(&reader);
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
    if (data[0] % 3 == 2) {
        struct block block = { 0 };
        for (uint32_t count = 1; count < 5; count++) {
            memcpy(copy, data + 1, bytes);
            if (block_decode(&block, copy, bytes, count, CLASSES, "fuzz", 0) == STATUS_OK)
                check_block(&block);
        }
        block_finish(&block);
    } else {
        if (data[0] % 3 == 1)
            repair(copy, bytes);
        try_shard(copy, bytes);
    }
    free(copy);
    return 0;
}
