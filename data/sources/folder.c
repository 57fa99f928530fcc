/* folder.c - lists all files first, because classes and order depend on all of them. Files on disk are then read by
 * path, those of an uncompressed tar by offset, both in any order. A compressed archive is read in its own order if
 * that is sorted; otherwise it is first unpacked into a spool file. */
#include "data/sources/folder.h"

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
#include "base/memory.h"
#include "data/image/decode.h"
#include "data/image/exif.h"
#include "data/sources/archive_reader.h"
#include "data/sources/folder_internal.h"

enum { MAX_DEPTH = 32 }; /* of folders; ends the recursion if a link points upwards */

/* ---- a folder on disk ---- */

/* Lists everything below base/path. At the top, path is "". */
static enum status list_disk(struct listing *l, const char *base, const char *path, int depth)
{
    enum status status = STATUS_OK;
    char full[PATH_MAX], child[PATH_MAX];
    DIR *handle = NULL;
    struct stat info;
    if (depth > MAX_DEPTH)
        FAIL(STATUS_DATA, "%s/%s: folders are nested more than %d deep", base, path, MAX_DEPTH);
    snprintf(full, sizeof full, "%s/%s", base, path);
    handle = opendir(full);
    if (!handle)
        FAIL(STATUS_IO, "%s: %s", full, strerror(errno));
    for (struct dirent *entry; (entry = readdir(handle));) {
        if (!listing_accepts(entry->d_name))
            continue;
        if (snprintf(child, sizeof child, "%s%s%s", path, *path ? "/" : "", entry->d_name) >= PATH_MAX ||
            snprintf(full, sizeof full, "%s/%s", base, child) >= PATH_MAX)
            FAIL(STATUS_IO, "%s/%s: name too long", base, path);
        bool there = stat(full, &info) == 0;
        if (!there && !*path) /* it may have been a class, without which the labels of the others would change */
            FAIL(STATUS_DATA, "%s: a link that leads nowhere; repair or remove it", full);
        if (!there)
            info = (struct stat){ .st_mode = S_IFREG }; /* reading it fails, which --bad covers */
        if (S_ISDIR(info.st_mode)) {
            TRY(listing_add_folder(l, child));
            TRY(list_disk(l, base, child, depth + 1));
        } else {
            const char *fault = S_ISREG(info.st_mode) ? NULL : member_fault(MEMBER_OTHER);
            TRY(listing_add_file(l, child, 0, (uint64_t)info.st_size, fault));
        }
    }
fail:
    if (handle)
        closedir(handle);
    return status;
}

static enum status read_from_disk(struct folder *f, const struct listed_file *file, struct pack_item *item)
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

/* Returns a member's name below the root; NULL if it is not listed: hidden, elsewhere, or the root itself. */
static const char *below_root(const struct folder *f, const char *name)
{
    size_t length = strlen(f->root);
    if (length && (strncmp(name, f->root, length) != 0 || name[length] != '/'))
        return NULL;
    name += length ? length + 1 : 0;
    return listing_accepts(name) ? name : NULL;
}

const char *folder_member_fault(const struct member *member)
{
    const char *fault = member_fault(member->kind);
    return fault || (uint64_t)member->bytes <= LIMIT_FILE ? fault : "is larger than 512 MB";
}

static enum status add_member(void *context, const struct member *member, uint64_t offset)
{
    enum status status = STATUS_OK;
    struct folder *f = context;
    const char *name = below_root(f, member->name);
    if (!name)
        return STATUS_OK;
    if (member->kind == MEMBER_FOLDER)
        TRY(listing_add_folder(&f->listing, name));
    else
        TRY(listing_add_file(&f->listing, name, offset, (uint64_t)member->bytes, folder_member_fault(member)));
fail:
    return status;
}

static enum status read_at_offset(const struct folder *f, const struct listed_file *file, struct pack_item *item)
{
    enum status status = STATUS_OK;
    if (file->bytes > LIMIT_FILE)
        FAIL(STATUS_DATA, "%s: %s: has %llu bytes, but at most %zu are read", f->path, file->path,
             (unsigned long long)file->bytes, LIMIT_FILE);
    item->bytes = (size_t)file->bytes;
    TRY(buffer_grow(&item->data, &item->capacity, item->bytes));
    ssize_t got = file_read_at(f->archive_fd, item->data, item->bytes, file->offset);
    if (got != (ssize_t)item->bytes)
        FAIL(STATUS_IO, "reading %s in %s: %s", file->path, f->path, got < 0 ? strerror(errno) : "the file ends");
fail:
    return status;
}

enum status folder_open_tar(struct folder *f, struct tar_range *range, bool *is_tar)
{
    enum status status = STATUS_OK;
    struct stat info;
    TRY(file_open(f->path, &f->archive_fd, &info));
    *range = (struct tar_range){ f->path, f->archive_fd, NULL, 0, (uint64_t)info.st_size };
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

/* Reads the archive's next image, skipping what listing_add_file did not list. A file with a fault has no content. */
static enum status next_archive_image(struct folder *f, struct archive_reader *reader, const struct listed_file *file,
                                      struct pack_item *item)
{
    enum status status = STATUS_OK;
    struct member member;
    for (;;) {
        bool end;
        TRY(archive_reader_next(reader, &member, &end));
        if (end)
            FAIL(STATUS_DATA, "%s: the archive changed while it was read", f->path);
        const char *name = below_root(f, member.name);
        if (name && member.kind != MEMBER_FOLDER && strchr(name, '/') && listing_is_image(name))
            break;
    }
    item->bytes = 0;
    if (!file->fault)
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
    f->archive_fd = mkstemp(path);
    if (f->archive_fd < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    unlink(path); /* it disappears with this process, however that ends */
fail:
    return status;
}

/* Copies all files of the archive into the spool file and sets their offsets there. */
static enum status fill_spool(struct folder *f, const char *folder)
{
    enum status status = STATUS_OK;
    struct archive_reader *reader = NULL;
    struct pack_item item = { .data = NULL };
    uint64_t offset = 0;
    log_info("%s: its files are not in sorted order; unpacking it into a temporary file first", f->path);
    TRY(open_spool(f, folder));
    TRY(archive_reader_open(&reader, f->path));
    listing_sort(&f->listing, true);
    for (int64_t i = 0; i < f->listing.count; i++) {
        struct listed_file *file = &f->listing.files[i];
        TRY(next_archive_image(f, reader, file, &item));
        if (!file_write_all(f->archive_fd, item.data, item.bytes))
            FAIL(STATUS_IO, "unpacking %s: %s", f->path, strerror(errno));
        file->offset = offset;
        file->bytes = item.bytes;
        offset += item.bytes;
    }
    listing_sort(&f->listing, false);
fail:
    free(item.data);
    archive_reader_close(reader);
    return status;
}

/* ---- the source ---- */

/* Reads the archive up to sample `index`. A sample that fails counts as read. */
static enum status read_from_stream(struct folder *f, int64_t index, struct pack_item *item)
{
    enum status status = STATUS_OK;
    while (f->stream_position <= index) {
        const struct listed_file *file = &f->listing.files[f->stream_position++];
        TRY(next_archive_image(f, f->reader, file, item));
    }
fail:
    return status;
}

static enum status read_sample(struct pack_source *source, int64_t index, struct pack_item *item)
{
    struct folder *f = (struct folder *)source;
    const struct listed_file *file = &f->listing.files[index];
    item->label = file->label;
    enum status status = STATUS_OK;
    snprintf(item->name, sizeof item->name, "%s", file->path);
    if (file->fault)
        FAIL(STATUS_DATA, "%s %s", file->path, file->fault);
    TRY(f->reader            ? read_from_stream(f, index, item)
        : f->archive_fd >= 0 ? read_at_offset(f, file, item)
                             : read_from_disk(f, file, item));
fail:
    return status;
}

static enum status decode_sample(const struct pack_source *source, const struct pack_item *item, struct image *image,
                                 unsigned *notes)
{
    enum status status = STATUS_OK;
    (void)source;
    TRY(decode_image(item->data, item->bytes, item->name, image, notes));
    *notes |= (unsigned)exif_is_rotated(item->data, item->bytes) << NOTE_ROTATED;
fail:
    return status;
}

static uint64_t sample_bytes(const struct pack_source *source, int64_t index)
{
    return ((const struct folder *)source)->listing.files[index].bytes;
}

static enum status open_archive(struct folder *f, const char *where, const struct folder_options *o)
{
    enum status status = STATUS_OK;
    struct tar_range range;
    bool is_tar = false, sorted = true, rooted = *f->root != 0;
    enum archive_end end;
    TRY(folder_open_tar(f, &range, &is_tar));
    if (is_tar) {
        TRY(tar_list(&range, add_member, f, &end));
        archive_warn_end(f->path, end);
        TRY(listing_complete(&f->listing, where, rooted, o->classes));
        return STATUS_OK;
    }
    close(f->archive_fd);
    f->archive_fd = -1;
    TRY(list_archive(f));
    TRY(listing_complete(&f->listing, where, rooted, o->classes));
    for (int64_t i = 0; i < f->listing.count; i++)
        sorted &= f->listing.files[i].order == i;
    if (!sorted && !o->spool)
        listing_sort(&f->listing, true);
    if (sorted || !o->spool)
        TRY(archive_reader_open(&f->reader, f->path));
    else
        TRY(fill_spool(f, o->spool));
fail:
    return status;
}

enum status folder_create(struct folder **out, const char *path)
{
    enum status status = STATUS_OK;
    struct folder *f = calloc(1, sizeof *f);
    if (!f)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    f->archive_fd = -1;
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
    f->source = (struct pack_source){ .read = read_sample,
                                      .decode = decode_sample,
                                      .bytes = sample_bytes,
                                      .parallel = !f->reader,
                                      .is_files = true,
                                      .total = f->listing.count,
                                      .class_count = f->listing.classes.count,
                                      .class_names = f->listing.classes.names,
                                      .non_images = f->listing.non_images,
                                      .non_image_count = f->listing.non_image_count };
    TRY(listing_fingerprint(&f->listing, &f->source.fingerprint));
fail:
    return status;
}

enum status folder_open(struct folder **out, const char *path, const struct folder_options *o)
{
    enum status status = STATUS_OK;
    char where[PATH_MAX];
    struct folder *f = NULL;
    TRY(folder_create(&f, path));
    if (o->root && !strncmp(o->root, "..", 2) && (!o->root[2] || o->root[2] == '/'))
        FAIL(STATUS_USAGE, "--root %s: must name a folder inside %s", o->root, path);
    f->root = archive_plain_name(o->root ? o->root : "");
    if (!f->root)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    if (snprintf(where, sizeof where, "%s%s%s", path, *f->root ? "/" : "", f->root) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: name too long", path);
    if (file_is_folder(path)) {
        TRY(list_disk(&f->listing, where, "", 0));
        TRY(listing_complete(&f->listing, where, *f->root != 0, o->classes));
    } else {
        TRY(open_archive(f, where, o));
    }
    TRY(folder_complete(f));
    *out = f;
    return STATUS_OK;
fail:
    folder_close(f);
    return status;
}

const struct class_names *folder_classes(const struct folder *f)
{
    return &f->listing.classes;
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
    if (f->archive_fd >= 0)
        close(f->archive_fd);
    listing_finish(&f->listing);
    free(f->path);
    free(f->root);
    free(f);
}
