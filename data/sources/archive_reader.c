/* archive_reader.c - reads tars with libarchive. The bytes come from an archive_stream, which decompresses them and is
 * read to its end, so that every checksum is compared. */
#include "data/sources/archive_reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/image/image.h"
#include "data/sources/archive_stream.h"

struct archive_reader {
    struct archive *archive; /* libarchive, which reads the tar that comes from the stream */
    struct archive_stream stream;
    enum status stream_status; /* of the last archive_stream_next */
    char *path;                /* of the archive */
    char *name;                /* of the current member */
    int64_t bytes;             /* of the current member */
};

/* libarchive's read callback. */
static la_ssize_t read_stream(struct archive *archive, void *context, const void **data)
{
    struct archive_reader *r = context;
    size_t bytes;
    r->stream_status = archive_stream_next(&r->stream, data, &bytes);
    if (r->stream_status != STATUS_OK)
        archive_set_error(archive, EIO, "%s", status_message());
    return r->stream_status == STATUS_OK ? (la_ssize_t)bytes : -1;
}

enum status archive_reader_open(struct archive_reader **out, const char *path)
{
    enum status status = STATUS_OK;
    struct archive_reader *r = calloc(1, sizeof *r);
    if (!r)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    r->stream.fd = -1;
    r->path = strdup(path);
    r->archive = archive_read_new();
    if (!r->path || !r->archive)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    TRY(archive_stream_open(&r->stream, r->path));
    archive_read_support_format_tar(r->archive);
    if (archive_read_open(r->archive, r, NULL, read_stream, NULL) != ARCHIVE_OK) {
        TRY(r->stream_status);
        FAIL(STATUS_DATA, "%s: not a tar archive: %s", path, archive_stream_error(r->archive));
    }
    *out = r;
    return STATUS_OK;
fail:
    archive_reader_close(r);
    return status;
}

char *archive_plain_name(const char *name)
{
    size_t length;
    char *plain = malloc(strlen(name) + 1), *end = plain;
    for (; plain && *name; name += length + (name[length] == '/')) {
        length = strcspn(name, "/");
        if (!length || !strncmp(name, ".", length))
            continue;
        if (length == 2 && !strncmp(name, "..", 2)) {
            while (end > plain && *--end != '/') {
            }
            continue;
        }
        if (end > plain)
            *end++ = '/';
        memcpy(end, name, length);
        end += length;
    }
    if (plain)
        *end = 0;
    return plain;
}

const char *member_fault(enum member_kind kind)
{
    static const char *const faults[] = {
        [MEMBER_LINK] = "is a link, which cannot be followed in an archive; unpack it and pack the folder",
        [MEMBER_SPARSE] = "is a sparse file, which cannot be read in an archive; unpack it and pack the folder",
        [MEMBER_OTHER] = "is not a regular file",
    };
    return faults[kind];
}

/* Reads the stream to its end, so that its last checksum is compared, and warns unless the tar ends as it should. */
static enum status drain(struct archive_reader *r)
{
    enum status status = STATUS_OK;
    uint64_t end = (uint64_t)archive_read_header_position(r->archive);
    const void *data;
    size_t bytes;
    do
        TRY(archive_stream_next(&r->stream, &data, &bytes));
    while (bytes);
    archive_warn_end(r->path, r->stream.bytes <= end     ? ARCHIVE_END_MISSING
                              : r->stream.data_end > end ? ARCHIVE_END_EARLY
                                                         : ARCHIVE_END_GOOD);
fail:
    return status;
}

void archive_warn_end(const char *name, enum archive_end end)
{
    if (end == ARCHIVE_END_MISSING)
        log_warn_rank0("%s: has no end-of-archive mark; it may have been cut off between two files", name);
    if (end == ARCHIVE_END_EARLY)
        log_warn_rank0("%s: data after its end-of-archive mark, such as another archive, are not read", name);
}

enum status archive_reader_next(struct archive_reader *r, struct member *member, bool *end)
{
    enum status status = STATUS_OK;
    struct archive_entry *entry;
    int code = archive_read_next_header(r->archive, &entry);
    *end = code == ARCHIVE_EOF;
    TRY(r->stream_status);
    if (*end)
        return drain(r);
    if (code == ARCHIVE_FATAL || code == ARCHIVE_FAILED || code == ARCHIVE_RETRY)
        FAIL(STATUS_DATA, "%s: %s", r->path, archive_stream_error(r->archive));
    const char *name = archive_entry_pathname(entry);
    if (!name)
        FAIL(STATUS_DATA, "%s: a member has no readable name", r->path);
    free(r->name);
    r->name = archive_plain_name(name);
    if (!r->name)
        FAIL(STATUS_NOMEM, "%s: out of memory", r->path);
    r->bytes = archive_entry_size(entry);
    bool link = archive_entry_hardlink(entry) || archive_entry_filetype(entry) == AE_IFLNK;
    *member = (struct member){ .name = r->name, .bytes = r->bytes, .kind = link ? MEMBER_LINK : MEMBER_OTHER };
    if (archive_entry_filetype(entry) == AE_IFREG && !link)
        member->kind = MEMBER_FILE;
    if (archive_entry_filetype(entry) == AE_IFDIR)
        member->kind = MEMBER_FOLDER;
fail:
    return status;
}

enum status archive_reader_content(struct archive_reader *r, size_t limit, uint8_t **data, size_t *capacity,
                                   size_t *bytes)
{
    enum status status = STATUS_OK;
    if (r->bytes < 0 || (uint64_t)r->bytes > limit)
        FAIL(STATUS_DATA, "%s: %s: has %lld bytes, but at most %zu are read", r->path, r->name, (long long)r->bytes,
             limit);
    TRY(buffer_grow(data, capacity, (size_t)r->bytes));
    for (size_t done = 0; done < (size_t)r->bytes;) {
        la_ssize_t got = archive_read_data(r->archive, *data + done, (size_t)r->bytes - done);
        TRY(r->stream_status);
        if (got < 0)
            FAIL(STATUS_DATA, "%s: %s: %s", r->path, r->name, archive_stream_error(r->archive));
        if (got == 0)
            FAIL(STATUS_DATA, "%s: %s: ends after %zu of %lld bytes", r->path, r->name, done, (long long)r->bytes);
        done += (size_t)got;
    }
    *bytes = (size_t)r->bytes;
fail:
    return status;
}

void archive_reader_close(struct archive_reader *r)
{
    if (!r)
        return;
    archive_read_free(r->archive);
    archive_stream_close(&r->stream);
    free(r->path);
    free(r->name);
    free(r);
}
