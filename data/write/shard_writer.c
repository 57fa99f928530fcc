/* shard_writer.c - writes a shard under a temporary name and renames it when it is complete. */
#include "data/write/shard_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

static enum status write_all(const struct shard_writer *writer, const void *data, size_t bytes, uint64_t offset)
{
    enum status status = STATUS_OK;
    if (!file_write_at(writer->fd, data, bytes, offset))
        FAIL(STATUS_IO, "%s: %s", writer->temporary, strerror(errno));
fail:
    return status;
}

static enum status open_file(struct shard_writer *writer, const char *path, enum codec codec, int flags)
{
    enum status status = STATUS_OK;
    *writer = (struct shard_writer){ .fd = -1, .offset = SHARD_HEADER_BYTES, .codec = codec };
    writer->path = strdup(path);
    if (!writer->path || asprintf(&writer->temporary, "%s.tmp", path) < 0) {
        writer->temporary = NULL;
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    }
    if (!(flags & O_CREAT) && !file_exists(writer->temporary) && file_exists(path) &&
        rename(path, writer->temporary) != 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    writer->fd = open(writer->temporary, O_RDWR | O_CLOEXEC | flags, 0666);
    if (writer->fd < 0 && (errno != ENOENT || flags))
        FAIL(STATUS_IO, "%s: %s", writer->temporary, strerror(errno));
    return STATUS_OK;
fail:
    shard_writer_finish(writer);
    return status;
}

enum status shard_writer_init(struct shard_writer *writer, const char *path, enum codec codec)
{
    return open_file(writer, path, codec, O_CREAT | O_TRUNC);
}

enum status shard_writer_reopen(struct shard_writer *writer, const char *path, enum codec codec, bool *found)
{
    enum status status = open_file(writer, path, codec, 0);
    *found = status == STATUS_OK && writer->fd >= 0;
    return status;
}

/* Makes room for an entry. The header is kept in front of the table, so that one call can hash both. */
static enum status grow_table(struct shard_writer *writer)
{
    return array_grow(&writer->table, &writer->capacity,
                      SHARD_HEADER_BYTES + ((size_t)writer->blocks + 1) * SHARD_ENTRY_BYTES, 1);
}

static enum status add_entry(struct shard_writer *writer, const struct shard_frame *frame)
{
    enum status status = STATUS_OK;
    TRY(grow_table(writer));
    uint8_t *entry = writer->table + SHARD_HEADER_BYTES + (size_t)writer->blocks * SHARD_ENTRY_BYTES;
    put64(entry, writer->offset);
    put32(entry + 8, frame->bytes);
    put32(entry + 12, frame->raw_bytes);
    put32(entry + 16, (uint32_t)writer->samples);
    put32(entry + 20, frame->samples);
    put64(entry + 24, frame->hash);
    writer->offset += frame->bytes;
    writer->samples += frame->samples;
    writer->blocks++;
fail:
    return status;
}

enum status shard_writer_recover(struct shard_writer *writer, const struct shard_frame *frame, bool *good)
{
    enum status status = STATUS_OK;
    uint8_t *data = malloc(frame->bytes ? frame->bytes : 1);
    if (!data)
        FAIL(STATUS_NOMEM, "%s: out of memory", writer->path);
    *good = file_read_at(writer->fd, data, frame->bytes, writer->offset) == (ssize_t)frame->bytes &&
            hash_bytes(data, frame->bytes) == frame->hash;
    if (*good)
        TRY(add_entry(writer, frame));
fail:
    free(data);
    return status;
}

enum status shard_writer_add(struct shard_writer *writer, const void *data, const struct shard_frame *frame)
{
    enum status status = STATUS_OK;
    TRY(write_all(writer, data, frame->bytes, writer->offset));
    TRY(add_entry(writer, frame));
fail:
    return status;
}

enum status shard_writer_sync(struct shard_writer *writer)
{
    enum status status = STATUS_OK;
    if (fdatasync(writer->fd) != 0)
        FAIL(STATUS_IO, "%s: %s", writer->temporary, strerror(errno));
fail:
    return status;
}

enum status shard_writer_commit(struct shard_writer *writer)
{
    enum status status = STATUS_OK;
    TRY(grow_table(writer));
    uint8_t *header = writer->table;
    size_t table_bytes = (size_t)writer->blocks * SHARD_ENTRY_BYTES;
    memset(header, 0, SHARD_HEADER_BYTES);
    memcpy(header, FORMAT_MAGIC, 8);
    put32(header + 8, FORMAT_VERSION);
    put32(header + 12, writer->codec);
    put64(header + 16, writer->samples);
    put64(header + 24, writer->offset);
    put32(header + 32, writer->blocks);
    writer->hash = hash_bytes(header, SHARD_HEADER_BYTES + table_bytes); /* the hash field is 0 while it is computed */
    put64(header + 56, writer->hash);
    TRY(write_all(writer, header + SHARD_HEADER_BYTES, table_bytes, writer->offset));
    TRY(write_all(writer, header, SHARD_HEADER_BYTES, 0));
    writer->offset += table_bytes;
    if (ftruncate(writer->fd, (off_t)writer->offset) != 0 || fsync(writer->fd) != 0)
        FAIL(STATUS_IO, "%s: %s", writer->temporary, strerror(errno));
    int closed = close(writer->fd);
    writer->fd = -1;
    if (closed != 0 || rename(writer->temporary, writer->path) != 0)
        FAIL(STATUS_IO, "%s: %s", writer->path, strerror(errno));
fail:
    return status;
}

void shard_writer_finish(struct shard_writer *writer)
{
    if (writer->fd >= 0 && writer->path)
        close(writer->fd);
    free(writer->temporary);
    free(writer->path);
    free(writer->table);
    *writer = (struct shard_writer){ .fd = -1 };
}
