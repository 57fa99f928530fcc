/* journal.c - appends records, and reads them as far as the chain of their hashes is intact. */
#include "data/write/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "data/format/format.h"

#define MAGIC "CSZJRNL\n" /* 8 bytes */
enum { VERSION = 1, HASHED_HEADER_BYTES = 24 };

/* Hashes the chain so far and a record (type, bytes, payload). `buffer` has room for 8 + bytes. */
static uint64_t record_hash(uint64_t chain, const uint8_t *record, size_t bytes, uint8_t *buffer)
{
    put64(buffer, chain);
    memmove(buffer + 8, record, bytes);
    return hash_bytes(buffer, 8 + bytes);
}

bool journal_read_header(const uint8_t *data, size_t bytes, uint64_t *identity, struct journal_record *record)
{
    if (bytes < JOURNAL_HEADER_BYTES || memcmp(data, MAGIC, 8) != 0 || get32(data + 8) != VERSION ||
        get64(data + HASHED_HEADER_BYTES) != hash_bytes(data, HASHED_HEADER_BYTES))
        return false;
    *identity = get64(data + 16);
    *record = (struct journal_record){ .end = JOURNAL_HEADER_BYTES, .chain = get64(data + HASHED_HEADER_BYTES) };
    return true;
}

bool journal_next(const uint8_t *data, size_t bytes, struct journal_record *r)
{
    size_t left = bytes - r->end;
    const uint8_t *record = data + r->end;
    if (left < JOURNAL_RECORD_HEADER_BYTES + 8)
        return false;
    uint32_t type = get32(record), size = get32(record + 4);
    if (size > JOURNAL_MAX_PAYLOAD || size > left - JOURNAL_RECORD_HEADER_BYTES - 8)
        return false;
    size_t hashed = JOURNAL_RECORD_HEADER_BYTES + (size_t)size;
    uint8_t *buffer = malloc(8 + hashed);
    if (!buffer)
        return false; /* treated as the end: the work is repeated, and nothing goes wrong */
    uint64_t hash = record_hash(r->chain, record, hashed, buffer);
    free(buffer);
    if (hash != get64(record + hashed))
        return false;
    *r = (struct journal_record){ type, size, record + JOURNAL_RECORD_HEADER_BYTES, r->end + hashed + 8, hash };
    return true;
}

static enum status write_at_end(struct journal *j, const uint8_t *data, size_t bytes)
{
    enum status status = STATUS_OK;
    if (!file_write_at(j->fd, data, bytes, j->bytes))
        FAIL(STATUS_IO, "%s: %s", j->path, strerror(errno));
    j->bytes += bytes;
fail:
    return status;
}

static enum status open_file(struct journal *j, const char *path, int flags)
{
    enum status status = STATUS_OK;
    *j = (struct journal){ .fd = -1 };
    j->path = strdup(path);
    if (!j->path)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    j->fd = open(path, O_RDWR | O_CLOEXEC | flags, 0666);
    if (j->fd < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
fail:
    return status;
}

enum status journal_create(struct journal *j, const char *path, uint64_t identity)
{
    enum status status = STATUS_OK;
    uint8_t head[JOURNAL_HEADER_BYTES] = MAGIC;
    TRY(open_file(j, path, O_CREAT | O_TRUNC));
    put32(head + 8, VERSION);
    put64(head + 16, identity);
    j->chain = hash_bytes(head, HASHED_HEADER_BYTES);
    put64(head + HASHED_HEADER_BYTES, j->chain);
    TRY(write_at_end(j, head, sizeof head));
    return STATUS_OK;
fail:
    journal_close(j);
    return status;
}

enum status journal_reopen(struct journal *j, const char *path, const struct journal_record *last)
{
    enum status status = STATUS_OK;
    TRY(open_file(j, path, 0));
    j->bytes = last->end;
    j->chain = last->chain;
    if (ftruncate(j->fd, (off_t)last->end) != 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    return STATUS_OK;
fail:
    journal_close(j);
    return status;
}

enum status journal_append(struct journal *j, uint32_t type, const void *payload, uint32_t bytes)
{
    enum status status = STATUS_OK;
    size_t hashed = JOURNAL_RECORD_HEADER_BYTES + (size_t)bytes;
    if (bytes > JOURNAL_MAX_PAYLOAD)
        FAIL(STATUS_BUG, "%s: a record of %u bytes is too long", j->path, bytes);
    TRY(array_grow(&j->buffer, &j->capacity, 8 + hashed + 8, 1));
    uint8_t *record = j->buffer + 8;
    put32(record, type);
    put32(record + 4, bytes);
    memcpy(record + JOURNAL_RECORD_HEADER_BYTES, payload, bytes);
    uint64_t hash = record_hash(j->chain, record, hashed, j->buffer);
    put64(record + hashed, hash);
    TRY(write_at_end(j, record, hashed + 8));
    j->chain = hash;
fail:
    return status;
}

enum status journal_sync(struct journal *j)
{
    enum status status = STATUS_OK;
    if (fdatasync(j->fd) != 0)
        FAIL(STATUS_IO, "%s: %s", j->path, strerror(errno));
fail:
    return status;
}

void journal_close(struct journal *j)
{
    if (j->path && j->fd >= 0)
        close(j->fd);
    free(j->path);
    free(j->buffer);
    *j = (struct journal){ .fd = -1 };
}
