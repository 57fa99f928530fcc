/* shard.c - opens shards and reads blocks. Every length, offset and hash is checked before it is used. */
#include "data/format/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"

static enum status read_at(const struct shard *shard, void *out, size_t bytes, uint64_t offset)
{
    enum status status = STATUS_OK;
    ssize_t got = file_read_at(shard->fd, out, bytes, offset);
    if (got < 0)
        FAIL(STATUS_IO, "%s: %s", shard->path, strerror(errno));
    if ((size_t)got < bytes)
        FAIL(STATUS_DATA, "%s: truncated: ends at byte %llu, %zu bytes missing", shard->path,
             (unsigned long long)offset + (size_t)got, bytes - (size_t)got);
fail:
    return status;
}

/* Checks the header. Afterwards *table_offset and shard->blocks agree with the size of the file. */
static enum status check_header(struct shard *shard, const uint8_t header[SHARD_HEADER_BYTES], uint64_t *table_offset)
{
    enum status status = STATUS_OK;
    if (memcmp(header, FORMAT_MAGIC, 8) != 0)
        FAIL(STATUS_DATA, "%s: not a shard: its first 8 bytes are wrong", shard->path);
    if (get32(header + 8) != FORMAT_VERSION)
        FAIL(STATUS_DATA, "%s: format version %u; this program reads %d", shard->path, get32(header + 8),
             FORMAT_VERSION);
    if (get32(header + 12) != CODEC_RGBZ && get32(header + 12) != CODEC_JPEG)
        FAIL(STATUS_DATA, "%s: unknown codec %u", shard->path, get32(header + 12));
    shard->codec = get32(header + 12);
    shard->samples = get64(header + 16);
    *table_offset = get64(header + 24);
    shard->blocks = get32(header + 32);
    if (!shard->blocks || shard->samples < shard->blocks || shard->samples > LIMIT_SHARD_SAMPLES)
        FAIL(STATUS_DATA, "%s: its header states %llu samples in %u blocks", shard->path,
             (unsigned long long)shard->samples, shard->blocks);
    if (*table_offset > shard->bytes || shard->bytes - *table_offset != (uint64_t)shard->blocks * SHARD_ENTRY_BYTES)
        FAIL(STATUS_DATA, "%s: %llu bytes, but its table of %u blocks begins at %llu: truncated or damaged",
             shard->path, (unsigned long long)shard->bytes, shard->blocks, (unsigned long long)*table_offset);
fail:
    return status;
}

static enum status parse_table(struct shard *shard, const uint8_t *table, uint64_t table_offset)
{
    enum status status = STATUS_OK;
    uint64_t offset = SHARD_HEADER_BYTES, samples = 0;
    for (uint32_t i = 0; i < shard->blocks; i++, table += SHARD_ENTRY_BYTES) {
        struct shard_entry e = { get64(table),      get32(table + 8),  get32(table + 12),
                                 get32(table + 16), get32(table + 20), get64(table + 24) };
        if (e.offset != offset || !e.bytes || e.bytes > table_offset - offset)
            FAIL(STATUS_DATA, "%s: block %u: %u bytes at %llu do not follow the previous block", shard->path, i,
                 e.bytes, (unsigned long long)e.offset);
        if (e.first != samples || !e.samples || e.samples > shard->samples - samples)
            FAIL(STATUS_DATA, "%s: block %u: %u samples from %u do not follow the previous ones", shard->path, i,
                 e.samples, e.first);
        if (e.raw_bytes > LIMIT_BLOCK_BYTES || e.samples > e.raw_bytes / RECORD_HEADER_BYTES)
            FAIL(STATUS_DATA, "%s: block %u: %u samples in %u bytes", shard->path, i, e.samples, e.raw_bytes);
        offset += e.bytes;
        samples += e.samples;
        shard->raw_bytes += e.raw_bytes;
        shard->table[i] = e;
    }
    if (offset != table_offset || samples != shard->samples)
        FAIL(STATUS_DATA, "%s: its blocks end at byte %llu with %llu samples, not at %llu with %llu", shard->path,
             (unsigned long long)offset, (unsigned long long)samples, (unsigned long long)table_offset,
             (unsigned long long)shard->samples);
fail:
    return status;
}

/* Reads the header and the table, compares their hash and fills shard->table. */
static enum status read_table(struct shard *shard)
{
    enum status status = STATUS_OK;
    uint8_t header[SHARD_HEADER_BYTES], *both = NULL;
    uint64_t table_offset = 0;
    TRY(read_at(shard, header, sizeof header, 0));
    TRY(check_header(shard, header, &table_offset));
    size_t table_bytes = (size_t)shard->blocks * SHARD_ENTRY_BYTES;
    both = malloc(SHARD_HEADER_BYTES + table_bytes);
    shard->table = calloc(shard->blocks, sizeof *shard->table);
    if (!both || !shard->table)
        FAIL(STATUS_NOMEM, "%s: out of memory for a table of %u blocks", shard->path, shard->blocks);
    memcpy(both, header, SHARD_HEADER_BYTES);
    memset(both + 56, 0, 8);
    TRY(read_at(shard, both + SHARD_HEADER_BYTES, table_bytes, table_offset));
    shard->hash = get64(header + 56);
    uint64_t found = hash_bytes(both, SHARD_HEADER_BYTES + table_bytes);
    if (found != shard->hash)
        FAIL(STATUS_DATA, "%s: header or table damaged: expected hash %016llx, found %016llx", shard->path,
             (unsigned long long)shard->hash, (unsigned long long)found);
    TRY(parse_table(shard, both + SHARD_HEADER_BYTES, table_offset));
fail:
    free(both);
    return status;
}

enum status shard_open(struct shard *shard, const char *path)
{
    enum status status = STATUS_OK;
    struct stat info;
    *shard = (struct shard){ .fd = -1 };
    shard->path = strdup(path);
    if (!shard->path)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    TRY(file_open(path, &shard->fd, &info));
    shard->bytes = (uint64_t)info.st_size;
    TRY(read_table(shard));
    return STATUS_OK;
fail:
    shard_close(shard);
    return status;
}

enum status shard_open_listed(struct shard *shard, const char *directory, const struct index *index, int i)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    const struct index_shard *expected = &index->shards[i];
    snprintf(path, sizeof path, "%s/%s", directory, expected->name);
    TRY(shard_open(shard, path));
    if (shard->bytes != expected->bytes || shard->samples != expected->samples || shard->blocks != expected->blocks ||
        shard->hash != expected->hash || shard->codec != index->codec)
        FAIL(STATUS_DATA, "%s: not the shard that the index describes: expected hash %016llx, found %016llx", path,
             (unsigned long long)expected->hash, (unsigned long long)shard->hash);
fail:
    return status;
}

void shard_close(struct shard *shard)
{
    if (shard->path && shard->fd >= 0)
        close(shard->fd);
    free(shard->path);
    free(shard->table);
    *shard = (struct shard){ .fd = -1 };
}

/* Reads a block from the shard's file, once, and compares its hash. */
static enum status read_once(const struct shard *shard, uint32_t block, struct block_reader *reader)
{
    enum status status = STATUS_OK;
    const struct shard_entry *e = &shard->table[block];
    TRY(read_at(shard, reader->compressed, e->bytes, e->offset));
    uint64_t found = hash_bytes(reader->compressed, e->bytes);
    if (found != e->hash)
        FAIL(STATUS_DATA, "%s: block %u at byte %llu damaged: expected hash %016llx, found %016llx", shard->path, block,
             (unsigned long long)e->offset, (unsigned long long)e->hash, (unsigned long long)found);
fail:
    return status;
}

enum status shard_check_block(const struct shard *shard, uint32_t block, struct block_reader *reader)
{
    enum status status = STATUS_OK;
    const struct shard_entry *e = &shard->table[block];
    TRY(buffer_grow(&reader->compressed, &reader->compressed_capacity, e->bytes));
    status = read_once(shard, block, reader);
    if (status == STATUS_DATA) { /* read once more, from storage: the page cache or a cable may be at fault */
        reader->rereads++;
        posix_fadvise(shard->fd, (off_t)e->offset, e->bytes, POSIX_FADV_DONTNEED);
        TRY(read_once(shard, block, reader));
        log_warn("%s: block %u at byte %llu was damaged at the first reading and intact at the second", shard->path,
                 block, (unsigned long long)e->offset);
        status_clear();
    }
fail:
    return status;
}

void shard_prefetch_block(const struct shard *shard, uint32_t block)
{
    const struct shard_entry *e = &shard->table[block];
    posix_fadvise(shard->fd, (off_t)e->offset, e->bytes, POSIX_FADV_WILLNEED);
}

enum status shard_open_block(const struct shard *shard, uint32_t block, int classes, struct block_reader *reader,
                             struct block *out)
{
    const struct shard_entry *e = &shard->table[block];
    struct block_info info = { shard->codec, e->bytes, e->raw_bytes, e->samples, classes, shard->path, block };
    return block_open(out, reader, &info);
}

enum status shard_read_block(const struct shard *shard, uint32_t block, int classes, struct block_reader *reader,
                             struct block *out)
{
    enum status status = STATUS_OK;
    out->count = 0;
    TRY(shard_check_block(shard, block, reader));
    TRY(shard_open_block(shard, block, classes, reader, out));
fail:
    return status;
}
