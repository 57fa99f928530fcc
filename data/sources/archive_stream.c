/* archive_stream.c - gzip is decompressed by zlib, which compares the checksum and length of every member; libarchive
 * does not. Everything else, uncompressed files included, goes through libarchive's filters. */
#include "data/sources/archive_stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

enum { CHUNK = 1 << 20, GZIP_ONLY = 16 };

const char *archive_stream_error(struct archive *archive)
{
    const char *text = archive_error_string(archive);
    return text ? text : "it is damaged or truncated";
}

static enum status open_libarchive(struct archive_stream *s)
{
    enum status status = STATUS_OK;
    struct archive_entry *entry;
    s->archive = archive_read_new();
    if (!s->archive)
        FAIL(STATUS_NOMEM, "%s: out of memory", s->path);
    archive_read_support_filter_all(s->archive);
    archive_read_support_format_raw(s->archive);
    archive_read_support_format_empty(s->archive);
    if (archive_read_open_fd(s->archive, s->fd, CHUNK) != ARCHIVE_OK ||
        archive_read_next_header(s->archive, &entry) < ARCHIVE_WARN)
        FAIL(STATUS_DATA, "%s: not a tar archive: %s", s->path, archive_stream_error(s->archive));
fail:
    return status;
}

enum status archive_stream_open(struct archive_stream *s, const char *path)
{
    enum status status = STATUS_OK;
    uint8_t first[4] = { 0 };
    *s = (struct archive_stream){ .path = path, .fd = -1 };
    TRY(file_open(path, &s->fd, NULL));
    if (pread(s->fd, first, sizeof first, 0) < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    if (!memcmp(first, "PK\3\4", 4))
        FAIL(STATUS_DATA, "%s: a zip archive, which is not read here; unpack it and pack the folder", path);
    if (first[0] != 0x1f || first[1] != 0x8b) {
        TRY(open_libarchive(s));
        return STATUS_OK;
    }
    s->in = malloc(CHUNK);
    s->out = malloc(CHUNK);
    s->zlib_ready = s->in && s->out && inflateInit2(&s->zlib, MAX_WBITS + GZIP_ONLY) == Z_OK;
    if (!s->zlib_ready)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
fail:
    return status;
}

static enum status refill(struct archive_stream *s)
{
    enum status status = STATUS_OK;
    ssize_t got;
    do
        got = read(s->fd, s->in, CHUNK);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        FAIL(STATUS_IO, "%s: %s", s->path, strerror(errno));
    if (got == 0 && s->in_member)
        FAIL(STATUS_DATA, "%s: truncated: its gzip data end too early", s->path);
    s->zlib.next_in = s->in;
    s->zlib.avail_in = (uInt)got;
fail:
    return status;
}

/* Skips zeros between members, as tapes and blocks of a fixed size leave them. */
static void begin_member(struct archive_stream *s)
{
    while (s->zlib.avail_in && s->zlib.total_in && !*s->zlib.next_in) {
        s->zlib.next_in++;
        s->zlib.avail_in--;
    }
    s->in_member = s->zlib.avail_in != 0;
    if (s->in_member && s->zlib.total_in)
        inflateReset(&s->zlib);
}

static enum status next_inflated(struct archive_stream *s, size_t *bytes)
{
    enum status status = STATUS_OK;
    s->zlib.next_out = s->out;
    s->zlib.avail_out = CHUNK;
    while (s->zlib.avail_out == CHUNK) {
        if (!s->zlib.avail_in)
            TRY(refill(s));
        if (!s->zlib.avail_in)
            break;
        if (!s->in_member)
            begin_member(s);
        int code = s->in_member ? inflate(&s->zlib, Z_NO_FLUSH) : Z_OK;
        if (code == Z_MEM_ERROR)
            FAIL(STATUS_NOMEM, "%s: out of memory", s->path);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            FAIL(STATUS_DATA, "%s: its gzip data are damaged: %s", s->path, s->zlib.msg ? s->zlib.msg : "not readable");
        s->in_member &= code != Z_STREAM_END;
    }
    *bytes = CHUNK - s->zlib.avail_out;
fail:
    return status;
}

static enum status next_unpacked(struct archive_stream *s, const void **data, size_t *bytes)
{
    enum status status = STATUS_OK;
    la_int64_t offset;
    int code;
    do
        code = archive_read_data_block(s->archive, data, bytes, &offset);
    while (code == ARCHIVE_OK && !*bytes);
    if (code == ARCHIVE_EOF)
        *bytes = 0;
    else if (code < ARCHIVE_WARN)
        FAIL(STATUS_DATA, "%s: %s", s->path, archive_stream_error(s->archive));
fail:
    return status;
}

enum status archive_stream_next(struct archive_stream *s, const void **data, size_t *bytes)
{
    enum status status = STATUS_OK;
    *data = s->out;
    *bytes = 0;
    TRY(s->archive ? next_unpacked(s, data, bytes) : next_inflated(s, bytes));
    const uint8_t *end = (const uint8_t *)*data + *bytes;
    for (size_t zeros = 0; zeros < *bytes; zeros++)
        if (end[-1 - (ptrdiff_t)zeros]) {
            s->data_end = s->bytes + *bytes - zeros;
            break;
        }
    s->bytes += *bytes;
fail:
    return status;
}

void archive_stream_close(struct archive_stream *s)
{
    if (s->zlib_ready)
        inflateEnd(&s->zlib);
    archive_read_free(s->archive);
    if (s->fd >= 0)
        close(s->fd);
    free(s->in);
    free(s->out);
    *s = (struct archive_stream){ .fd = -1 };
}
