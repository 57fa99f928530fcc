/* folder.c - lists first, so that classes and order are known, then gives the files one by one:
 * from disk by path; from a sorted archive as they come; from any other by way of a spool file. */
#include "data/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/archive_reader.h"
#include "data/decode.h"
#include "data/listing.h"

#define LIMIT_FILE ((size_t)512 << 20)
enum { DEPTH = 32 }; /* of folders; a link that points upwards would go on for ever */

struct folder {
    struct pack_source source; /* first: sources are cast back */
    char *path, *root;         /* root without slashes at its ends, or "" */
    struct listing listing;
    int64_t next;
    struct archive_reader *reader; /* of a sorted archive */
    int spool;                     /* descriptor, or -1 */
    int64_t *offsets;              /* (listing.count + 1): of each file in the spool, by its order in the archive */
};

/* ---- a folder on disk ---- */

/* Lists everything below base/path; path is "" at the top. */
static enum status list_disk(struct listing *l, const char *base, const char *path, int depth)
{
    enum status status = STATUS_OK;
    char full[PATH_MAX], child[PATH_MAX];
    DIR *handle = NULL;
    struct stat info;
    bool taken;
    if (depth > DEPTH)
        FAIL(STATUS_DATA, "%s/%s: folders more than %d deep", base, path, DEPTH);
    snprintf(full, sizeof full, "%s/%s", base, path);
    handle = opendir(full);
    if (!handle)
        FAIL(STATUS_IO, "%s: %s", full, strerror(errno));
    for (struct dirent *entry; (entry = readdir(handle));) {
        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(child, sizeof child, "%s%s%s", path, *path ? "/" : "", entry->d_name) >= PATH_MAX ||
            snprintf(full, sizeof full, "%s/%s", base, child) >= PATH_MAX)
            FAIL(STATUS_IO, "%s/%s: name too long", base, path);
        if (stat(full, &info) != 0)
            FAIL(STATUS_IO, "%s: %s", full, strerror(errno));
        if (S_ISDIR(info.st_mode)) {
            TRY(listing_add_folder(l, child));
            TRY(list_disk(l, base, child, depth + 1));
        } else {
            TRY(listing_add_file(l, child, &taken));
        }
    }
fail:
    if (handle)
        closedir(handle);
    return status;
}

static enum status next_on_disk(struct folder *f, const struct listed *file, struct pack_item *item)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s%s/%s", f->path, *f->root ? "/" : "", f->root, file->path);
    free(item->data);
    item->data = NULL;
    item->capacity = 0;
    TRY(file_read(path, LIMIT_FILE, (char **)&item->data, &item->bytes));
    item->capacity = item->bytes;
fail:
    return status;
}

/* ---- an archive ---- */

/* A member's name below the root; NULL if it lies elsewhere, is the root itself, or is hidden. */
static const char *below_root(const struct folder *f, const char *name)
{
    size_t length = strlen(f->root);
    if (length && (strncmp(name, f->root, length) != 0 || name[length] != '/'))
        return NULL;
    name += length ? length + 1 : 0;
    return listing_wants(name) ? name : NULL;
}

static enum status list_archive(struct folder *f)
{
    enum status status = STATUS_OK;
    struct archive_reader *reader = NULL;
    struct member member;
    bool end = false, taken;
    TRY(archive_reader_open(&reader, f->path));
    for (;;) {
        TRY(archive_reader_next(reader, &member, &end));
        if (end)
            break;
        const char *name = below_root(f, member.name);
        if (!name)
            continue;
        if (member.kind == MEMBER_OTHER)
            FAIL(STATUS_DATA, "%s: %s is a link, which cannot be followed here; unpack the archive and pack the folder",
                 f->path, member.name);
        if (member.kind == MEMBER_FOLDER)
            TRY(listing_add_folder(&f->listing, name));
        else
            TRY(listing_add_file(&f->listing, name, &taken));
    }
fail:
    archive_reader_close(reader);
    return status;
}

/* The content of the archive's next file inside a class folder: the ones listing_add_file took, in that order. */
static enum status next_file(struct folder *f, struct archive_reader *reader, struct pack_item *item)
{
    enum status status = STATUS_OK;
    struct member member;
    for (;;) {
        bool end;
        TRY(archive_reader_next(reader, &member, &end));
        if (end)
            FAIL(STATUS_DATA, "%s: changed while it was read", f->path);
        const char *name = below_root(f, member.name);
        if (name && member.kind == MEMBER_FILE && strchr(name, '/'))
            break;
    }
    TRY(archive_reader_content(reader, LIMIT_FILE, &item->data, &item->capacity, &item->bytes));
fail:
    return status;
}

static enum status open_spool(struct folder *f, const char *folder)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    f->offsets = calloc((size_t)f->listing.count + 1, sizeof *f->offsets);
    if (!f->offsets)
        FAIL(STATUS_NOMEM, "%s: out of memory", f->path);
    TRY(file_make_folders(folder));
    if (snprintf(path, sizeof path, "%s/.spool-XXXXXX", folder) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: name too long", folder);
    f->spool = mkstemp(path);
    if (f->spool < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    unlink(path); /* gone when it is closed, however this process ends */
fail:
    return status;
}

static enum status write_spool(struct folder *f, const uint8_t *data, size_t bytes)
{
    enum status status = STATUS_OK;
    for (size_t done = 0; done < bytes;) {
        ssize_t wrote = write(f->spool, data + done, bytes - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            FAIL(STATUS_IO, "unpacking %s: %s", f->path, strerror(errno));
        done += (size_t)wrote;
    }
fail:
    return status;
}

/* Copies all files of the archive into the spool. */
static enum status fill_spool(struct folder *f, const char *folder)
{
    enum status status = STATUS_OK;
    struct archive_reader *reader = NULL;
    struct pack_item item = { .data = NULL };
    log_info("%s: its files are not in sorted order; unpacking it into a temporary file first", f->path);
    TRY(open_spool(f, folder));
    TRY(archive_reader_open(&reader, f->path));
    for (int64_t i = 0; i < f->listing.count; i++) {
        TRY(next_file(f, reader, &item));
        TRY(write_spool(f, item.data, item.bytes));
        f->offsets[i + 1] = f->offsets[i] + (int64_t)item.bytes;
    }
fail:
    free(item.data);
    archive_reader_close(reader);
    return status;
}

static enum status next_in_spool(struct folder *f, const struct listed *file, struct pack_item *item)
{
    enum status status = STATUS_OK;
    int64_t offset = f->offsets[file->order];
    item->bytes = (size_t)(f->offsets[file->order + 1] - offset);
    TRY(buffer_grow(&item->data, &item->capacity, item->bytes));
    for (size_t done = 0; done < item->bytes;) {
        ssize_t got = pread(f->spool, item->data + done, item->bytes - done, (off_t)(offset + (int64_t)done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            FAIL(STATUS_IO, "reading back %s: %s", file->path, got ? strerror(errno) : "file ends");
        done += (size_t)got;
    }
fail:
    return status;
}

/* ---- both ---- */

static enum status next_image(struct pack_source *source, struct pack_item *item, bool *end)
{
    enum status status = STATUS_OK;
    struct folder *f = (struct folder *)source;
    *end = f->next == f->listing.count;
    if (*end)
        return STATUS_OK;
    const struct listed *file = &f->listing.files[f->next++];
    item->label = file->label;
    snprintf(item->name, sizeof item->name, "%s", file->path);
    if (f->reader)
        TRY(next_file(f, f->reader, item));
    else if (f->spool >= 0)
        TRY(next_in_spool(f, file, item));
    else
        TRY(next_on_disk(f, file, item));
fail:
    return status;
}

static enum status decode_item(const struct pack_source *source, const struct pack_item *item, struct image *image,
                               unsigned *notes)
{
    (void)source;
    return decode_image(item->data, item->bytes, item->name, image, notes);
}

static enum status prepare_archive(struct folder *f, const char *spool)
{
    enum status status = STATUS_OK;
    bool sorted = true;
    for (int64_t i = 0; i < f->listing.count; i++)
        sorted &= f->listing.files[i].order == i;
    if (sorted)
        TRY(archive_reader_open(&f->reader, f->path));
    else
        TRY(fill_spool(f, spool));
fail:
    return status;
}

enum status folder_open(struct folder **out, const char *path, const char *root, const char *spool)
{
    enum status status = STATUS_OK;
    char where[PATH_MAX];
    struct folder *f = calloc(1, sizeof *f);
    if (!f)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    f->spool = -1;
    f->path = strdup(path);
    for (root = root ? root : ""; *root == '/' || (root[0] == '.' && root[1] == '/'); root++)
        ;
    f->root = strdup(root);
    if (!f->path || !f->root)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    for (size_t n = strlen(f->root); n && f->root[n - 1] == '/';)
        f->root[--n] = 0;
    if (snprintf(where, sizeof where, "%s%s%s", path, *f->root ? "/" : "", f->root) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: name too long", path);
    bool disk = file_is_folder(path);
    TRY(disk ? list_disk(&f->listing, where, "", 0) : list_archive(f));
    TRY(listing_complete(&f->listing, where, *f->root != 0));
    if (!disk)
        TRY(prepare_archive(f, spool));
    f->source = (struct pack_source){ next_image, decode_item, f->listing.count, f->listing.class_count,
                                      f->listing.classes };
    *out = f;
    return STATUS_OK;
fail:
    folder_close(f);
    return status;
}

struct pack_source *folder_source(struct folder *f)
{
    return &f->source;
}

void folder_close(struct folder *f)
{
    if (!f)
        return;
    archive_reader_close(f->reader);
    if (f->spool >= 0)
        close(f->spool);
    listing_finish(&f->listing);
    free(f->offsets);
    free(f->path);
    free(f->root);
    free(f);
}
