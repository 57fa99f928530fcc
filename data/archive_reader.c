/* archive_reader.c - libarchive behind four functions and our errors. */
#include "data/archive_reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/image.h"

struct archive_reader {
    struct archive *archive;
    char *path, *name; /* of the archive, of the current member */
    int64_t bytes;     /* of the current member */
};

enum status archive_reader_open(struct archive_reader **out, const char *path)
{
    enum status status = STATUS_OK;
    struct archive_reader *r = calloc(1, sizeof *r);
    if (!r)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    r->path = strdup(path);
    r->archive = archive_read_new();
    if (!r->path || !r->archive)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    if (access(path, R_OK) != 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    archive_read_support_filter_all(r->archive);
    archive_read_support_format_tar(r->archive);
    if (archive_read_open_filename(r->archive, path, 1 << 20) != ARCHIVE_OK)
        FAIL(STATUS_DATA, "%s: not a tar archive: %s", path, archive_error_string(r->archive));
    *out = r;
    return STATUS_OK;
fail:
    archive_reader_close(r);
    return status;
}

char *archive_plain_name(const char *name)
{
    while (name[0] == '/' || (name[0] == '.' && name[1] == '/'))
        name += name[0] == '/' ? 1 : 2;
    char *copy = strdup(strcmp(name, ".") ? name : "");
    for (size_t length = copy ? strlen(copy) : 0; length && copy[length - 1] == '/';)
        copy[--length] = 0;
    return copy;
}

enum status archive_reader_next(struct archive_reader *r, struct member *member, bool *end)
{
    enum status status = STATUS_OK;
    struct archive_entry *entry;
    int code = archive_read_next_header(r->archive, &entry);
    *end = code == ARCHIVE_EOF;
    if (*end)
        return STATUS_OK;
    if (code == ARCHIVE_FATAL || code == ARCHIVE_FAILED || code == ARCHIVE_RETRY)
        FAIL(STATUS_DATA, "%s: %s", r->path, archive_error_string(r->archive));
    const char *name = archive_entry_pathname(entry);
    if (!name)
        FAIL(STATUS_DATA, "%s: a member without a readable name", r->path);
    free(r->name);
    r->name = archive_plain_name(name);
    if (!r->name)
        FAIL(STATUS_NOMEM, "%s: out of memory", r->path);
    r->bytes = archive_entry_size(entry);
    bool link = archive_entry_hardlink(entry) != NULL;
    *member = (struct member){ .name = r->name, .bytes = r->bytes, .kind = MEMBER_OTHER };
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
        FAIL(STATUS_DATA, "%s: %s: %lld bytes, more than the %zu that it may have", r->path, r->name,
             (long long)r->bytes, limit);
    TRY(buffer_grow(data, capacity, (size_t)r->bytes));
    for (size_t done = 0; done < (size_t)r->bytes;) {
        la_ssize_t got = archive_read_data(r->archive, *data + done, (size_t)r->bytes - done);
        if (got < 0)
            FAIL(STATUS_DATA, "%s: %s: %s", r->path, r->name, archive_error_string(r->archive));
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
    free(r->path);
    free(r->name);
    free(r);
}
