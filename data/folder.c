/* folder.c - lists first, so that classes and order are known, then gives the files: from disk by path and from an
 * uncompressed tar by offset, in any order; from a sorted compressed archive as they come; from any other compressed
 * one by way of a spool file. */
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
#include "data/exif.h"
#include "data/folder_internal.h"

enum { DEPTH = 32 }; /* of folders; a link that points upwards would go on for ever */

/* ---- a folder on disk ---- */

/* Lists everything below base/path; path is "" at the top. */
static enum status list_disk(struct listing *l, const char *base, const char *path, int depth)
{
    enum status status = STATUS_OK;
    char full[PATH_MAX], child[PATH_MAX];
    DIR *handle = NULL;
    struct stat info;
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
            info = (struct stat){ .st_size = 0 }; /* a link that leads nowhere: a bad image when it is read */
        if (S_ISDIR(info.st_mode)) {
            TRY(listing_add_folder(l, child));
            TRY(list_disk(l, base, child, depth + 1));
        } else {
            TRY(listing_add_file(l, child, 0, (uint64_t)info.st_size));
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
    if (snprintf(path, sizeof path, "%s%s%s/%s", f->path, *f->root ? "/" : "", f->root, file->path) >= PATH_MAX)
        FAIL(STATUS_DATA, "%s: name too long", file->path);
    free(item->data);
    item->data = NULL;
    item->capacity = 0;
    item->absent = access(path, R_OK) != 0 && (errno == ENOENT || errno == EACCES || errno == ELOOP);
    TRY(file_read(path, LIMIT_FILE, (char **)&item->data, &item->bytes));
    item->capacity = item->bytes;
    if (item->bytes != file->bytes)
        FAIL(STATUS_DATA, "%s: its size changed while the folder was packed", file->path);
fail:
    return status;
}

/* ---- an uncompressed archive ---- */

/* A member's name below the root; NULL if it lies elsewhere, is the root itself, or is hidden. */
static const char *below_root(const struct folder *f, const char *name)
{
    size_t length = strlen(f->root);
    if (length && (strncmp(name, f->root, length) != 0 || name[length] != '/'))
        return NULL;
    name += length ? length + 1 : 0;
    return listing_wants(name) ? name : NULL;
}

static enum status add_member(void *context, const struct member *member, uint64_t offset)
{
    enum status status = STATUS_OK;
    struct folder *f = context;
    const char *name = below_root(f, member->name);
    if (!name)
        return STATUS_OK;
    if (member->kind == MEMBER_OTHER)
        FAIL(STATUS_DATA, "%s: %s is a link, which cannot be followed here; unpack the archive and pack the folder", f->path,
             member->name);
    if (member->kind == MEMBER_FOLDER)
        TRY(listing_add_folder(&f->listing, name));
    else
        TRY(listing_add_file(&f->listing, name, offset, (uint64_t)member->bytes));
fail:
    return status;
}

enum status folder_next_in_file(const struct folder *f, const struct listed *file, struct pack_item *item)
{
    enum status status = STATUS_OK;
    if (file->bytes > LIMIT_FILE)
        FAIL(STATUS_DATA, "%s: %s: %llu bytes, more than the %zu that it may have", f->path, file->path,
             (unsigned long long)file->bytes, LIMIT_FILE);
    item->bytes = (size_t)file->bytes;
    TRY(buffer_grow(&item->data, &item->capacity, item->bytes));
    for (size_t done = 0; done < item->bytes;) {
        ssize_t got = pread(f->file, item->data + done, item->bytes - done, (off_t)(file->offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            FAIL(STATUS_IO, "reading %s in %s: %s", file->path, f->path, got ? strerror(errno) : "the file ends");
        done += (size_t)got;
    }
fail:
    return status;
}

enum status folder_open_tar(struct folder *f, struct tar_range *range, bool *is_tar)
{
    enum status status = STATUS_OK;
    struct stat info;
    f->file = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->file < 0 || fstat(f->file, &info) != 0)
        FAIL(STATUS_IO, "%s: %s", f->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        FAIL(STATUS_IO, "%s: not a regular file", f->path);
    *range = (struct tar_range){ f->path, f->file, NULL, 0, (uint64_t)info.st_size };
    TRY(tar_recognise(range, is_tar));
fail:
    return status;
}

/* ---- a compressed archive ---- */

static enum status list_archive(struct folder *f)
{
    enum status status = STATUS_OK;
    struct archive_reader *reader = NULL;
    struct member member;
    bool end = false;
    TRY(archive_reader_open(&reader, f->path));
    for (;;) {
        TRY(archive_reader_next(reader, &member, &end));
        if (end)
            break;
        TRY(add_member(f, &member, 0));
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
    TRY(file_make_folders(folder));
    if (snprintf(path, sizeof path, "%s/.spool-XXXXXX", folder) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: name too long", folder);
    f->file = mkstemp(path);
    if (f->file < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    unlink(path); /* gone when it is closed, however this process ends */
fail:
    return status;
}

static enum status write_spool(struct folder *f, const uint8_t *data, size_t bytes)
{
    enum status status = STATUS_OK;
    for (size_t done = 0; done < bytes;) {
        ssize_t wrote = write(f->file, data + done, bytes - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            FAIL(STATUS_IO, "unpacking %s: %s", f->path, strerror(errno));
        done += (size_t)wrote;
    }
fail:
    return status;
}

static int compare_orders(const void *a, const void *b)
{
    const struct listed *x = *(struct listed *const *)a, *y = *(struct listed *const *)b;
    return (x->order > y->order) - (x->order < y->order);
}

/* Copies all files of the archive into the spool, where they then have their offsets. */
static enum status fill_spool(struct folder *f, const char *folder)
{
    enum status status = STATUS_OK;
    struct archive_reader *reader = NULL;
    struct pack_item item = { .data = NULL };
    uint64_t offset = 0;
    struct listed **files = calloc((size_t)f->listing.count, sizeof *files);
    if (!files)
        FAIL(STATUS_NOMEM, "%s: out of memory", f->path);
    for (int64_t i = 0; i < f->listing.count; i++)
        files[i] = &f->listing.files[i];
    qsort(files, (size_t)f->listing.count, sizeof *files, compare_orders);
    log_info("%s: its files are not in sorted order; unpacking it into a temporary file first", f->path);
    TRY(open_spool(f, folder));
    TRY(archive_reader_open(&reader, f->path));
    for (int64_t i = 0; i < f->listing.count; i++) {
        TRY(next_file(f, reader, &item));
        TRY(write_spool(f, item.data, item.bytes));
        files[i]->offset = offset;
        files[i]->bytes = item.bytes;
        offset += item.bytes;
    }
fail:
    free(files);
    free(item.data);
    archive_reader_close(reader);
    return status;
}

/* ---- all ---- */

/* The archive as it comes; samples before `index` are passed over. */
static enum status next_in_stream(struct folder *f, int64_t index, struct pack_item *item)
{
    enum status status = STATUS_OK;
    for (; f->streamed <= index; f->streamed++)
        TRY(next_file(f, f->reader, item));
fail:
    return status;
}

enum status folder_read(struct pack_source *source, int64_t index, struct pack_item *item)
{
    struct folder *f = (struct folder *)source;
    const struct listed *file = &f->listing.files[index];
    item->label = file->label;
    snprintf(item->name, sizeof item->name, "%s", file->path);
    return f->reader ? next_in_stream(f, index, item) : f->file >= 0 ? folder_next_in_file(f, file, item) :
           next_on_disk(f, file, item);
}

enum status folder_decode(const struct pack_source *source, const struct pack_item *item, struct image *image,
                          unsigned *notes)
{
    enum status status = STATUS_OK;
    (void)source;
    TRY(decode_image(item->data, item->bytes, item->name, image, notes));
    *notes |= (unsigned)exif_turned(item->data, item->bytes) << NOTE_TURNED;
fail:
    return status;
}

uint64_t folder_bytes(const struct pack_source *source, int64_t index)
{
    return ((const struct folder *)source)->listing.files[index].bytes;
}

static enum status open_archive(struct folder *f, const char *where, const char *spool)
{
    enum status status = STATUS_OK;
    struct tar_range range;
    bool is_tar = false, sorted = true;
    TRY(folder_open_tar(f, &range, &is_tar));
    if (is_tar) {
        TRY(tar_list(&range, add_member, f));
        TRY(listing_complete(&f->listing, where, *f->root != 0));
        return STATUS_OK;
    }
    close(f->file);
    f->file = -1;
    TRY(list_archive(f));
    TRY(listing_complete(&f->listing, where, *f->root != 0));
    for (int64_t i = 0; i < f->listing.count; i++)
        sorted &= f->listing.files[i].order == i;
    if (sorted)
        TRY(archive_reader_open(&f->reader, f->path));
    else
        TRY(fill_spool(f, spool));
fail:
    return status;
}

enum status folder_create(struct folder **out, const char *path)
{
    enum status status = STATUS_OK;
    struct folder *f = calloc(1, sizeof *f);
    if (!f)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    f->file = -1;
    f->path = strdup(path);
    if (!f->path)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    *out = f;
    return STATUS_OK;
fail:
    folder_close(f);
    return status;
}

enum status folder_complete(struct folder *f)
{
    enum status status = STATUS_OK;
    f->source = (struct pack_source){ .read = folder_read, .decode = folder_decode, .bytes = folder_bytes,
                                      .parallel = !f->reader, .is_files = true, .total = f->listing.count,
                                      .classes = f->listing.class_count, .names = f->listing.classes };
    TRY(listing_fingerprint(&f->listing, &f->source.fingerprint));
fail:
    return status;
}

enum status folder_open(struct folder **out, const char *path, const char *root, const char *spool)
{
    enum status status = STATUS_OK;
    char where[PATH_MAX];
    struct folder *f = NULL;
    TRY(folder_create(&f, path));
    f->root = archive_plain_name(root ? root : "");
    if (!f->root)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    if (snprintf(where, sizeof where, "%s%s%s", path, *f->root ? "/" : "", f->root) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: name too long", path);
    if (file_is_folder(path)) {
        TRY(list_disk(&f->listing, where, "", 0));
        TRY(listing_complete(&f->listing, where, *f->root != 0));
    } else {
        TRY(open_archive(f, where, spool));
    }
    TRY(folder_complete(f));
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
    if (f->file >= 0)
        close(f->file);
    listing_finish(&f->listing);
    free(f->path);
    free(f->root);
    free(f);
}
