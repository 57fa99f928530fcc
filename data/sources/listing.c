/* listing.c - collects paths, finds the classes among them, and sorts both by their bytes. */
#include "data/sources/listing.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"

bool listing_accepts(const char *path)
{
    static const char *const systems[] = { "__MACOSX", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN" };
    for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
        size_t length = strcspn(part, "/");
        if (*part == '.' || !length)
            return false;
        for (size_t i = 0; i < sizeof systems / sizeof *systems; i++)
            if (length == strlen(systems[i]) && !strncmp(part, systems[i], length))
                return false;
    }
    return true;
}

bool listing_is_image(const char *path)
{
    static const char *const endings[] = {
        "jpg", "jpeg", "jpe", "jfif", "png",  "webp", "bmp", "dib", "gif", "tif", "tiff", "ppm",
        "pgm", "pbm",  "pnm", "avif", "heic", "heif", "jp2", "j2k", "jxl", "tga", "ico",
    };
    const char *dot = strrchr(basename(path), '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot + 1, endings[i]))
            return true;
    return false;
}

static enum status add_class(struct listing *l, const char *path)
{
    enum status status = STATUS_OK;
    struct class_names *c = &l->classes;
    size_t length = strcspn(path, "/");
    /* a shortcut: files mostly come class by class */
    if (c->count && !strncmp(c->names[c->count - 1], path, length) && !c->names[c->count - 1][length])
        return STATUS_OK;
    TRY(array_grow(&c->names, &l->class_capacity, (size_t)c->count + 1, sizeof *c->names));
    c->names[c->count] = strndup(path, length);
    if (!c->names[c->count])
        FAIL(STATUS_NOMEM, "out of memory for %d classes", c->count);
    c->count++;
fail:
    return status;
}

enum status listing_add_folder(struct listing *l, const char *path)
{
    return add_class(l, path);
}

static enum status add_non_image(struct listing *l, const char *path)
{
    enum status status = STATUS_OK;
    TRY(array_grow(&l->non_images, &l->non_image_capacity, (size_t)l->non_image_count + 1, sizeof *l->non_images));
    l->non_images[l->non_image_count] = strdup(path);
    if (!l->non_images[l->non_image_count])
        FAIL(STATUS_NOMEM, "out of memory for %lld files", (long long)l->non_image_count);
    l->non_image_count++;
fail:
    return status;
}

enum status listing_add_entry(struct listing *l, const char *path, uint64_t offset, uint64_t bytes, const char *fault)
{
    enum status status = STATUS_OK;
    if (!listing_is_image(path))
        return add_non_image(l, path);
    TRY(array_grow(&l->files, &l->capacity, (size_t)l->count + 1, sizeof *l->files));
    l->files[l->count] = (struct listed_file){ strdup(path), 0, l->count, offset, bytes, fault };
    if (!l->files[l->count].path)
        FAIL(STATUS_NOMEM, "out of memory for %lld files", (long long)l->count);
    l->count++;
fail:
    return status;
}

enum status listing_add_file(struct listing *l, const char *path, uint64_t offset, uint64_t bytes, const char *fault)
{
    enum status status = STATUS_OK;
    if (!strchr(path, '/')) {
        l->stray_count++;
        if (!l->first_stray)
            l->first_stray = strdup(path);
        return STATUS_OK;
    }
    TRY(add_class(l, path));
    TRY(listing_add_entry(l, path, offset, bytes, fault));
fail:
    return status;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_files(const void *a, const void *b)
{
    const struct listed_file *x = a, *y = b;
    return x->label != y->label ? x->label - y->label : strcmp(x->path, y->path);
}

static int compare_orders(const void *a, const void *b)
{
    const struct listed_file *x = a, *y = b;
    return (x->order > y->order) - (x->order < y->order);
}

void listing_sort(struct listing *l, bool as_added)
{
    qsort(l->files, (size_t)l->count, sizeof *l->files, as_added ? compare_orders : compare_files);
}

/* Sorts the classes and removes duplicates. */
static void sort_classes(struct class_names *c)
{
    int kept = 0;
    qsort(c->names, (size_t)c->count, sizeof *c->names, compare_strings);
    for (int i = 0; i < c->count; i++) {
        if (kept && !strcmp(c->names[kept - 1], c->names[i]))
            free(c->names[i]);
        else
            c->names[kept++] = c->names[i];
    }
    c->count = kept;
}

static bool is_split(const char *name)
{
    static const char *const splits[] = { "train", "training", "val", "valid", "validation", "test", "testing" };
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++)
        if (!strcasecmp(name, splits[i]))
            return true;
    return false;
}

/* Fails if the folders look like splits (train, val) instead of classes: a missing --root is the usual mistake. Up to a
 * tenth of the files may lie directly in these folders. */
static enum status check_root(const struct listing *l, const char *where)
{
    enum status status = STATUS_OK;
    const struct class_names *c = &l->classes;
    bool split = c->count == 1;
    int64_t deeper = 0;
    for (int i = 0; i < c->count; i++)
        split |= is_split(c->names[i]);
    for (int64_t i = 0; i < l->count && split; i++)
        deeper += strchr(strchr(l->files[i].path, '/') + 1, '/') != NULL;
    if (split && deeper >= l->count - l->count / 10)
        FAIL(STATUS_DATA, "%s: its folders hold only folders; to use those in '%s' as the classes, give --root %s",
             where, c->names[0], c->names[0]);
fail:
    return status;
}

/* Sets every file's label and sorts by it. */
static enum status label_files(struct listing *l, const char *where, const struct class_names *given)
{
    enum status status = STATUS_OK;
    if (given) {
        class_names_finish(&l->classes);
        TRY(class_names_copy(&l->classes, given));
    }
    TRY(class_names_sort(&l->classes, where));
    for (int64_t i = 0; i < l->count; i++) {
        size_t length = strcspn(l->files[i].path, "/");
        l->files[i].label = class_names_find(&l->classes, l->files[i].path, length);
        if (l->files[i].label < 0)
            FAIL(STATUS_USAGE, "%s: class '%.*s' is none of the %d given by --classes", where, (int)length,
                 l->files[i].path, l->classes.count);
    }
    listing_sort(l, false);
fail:
    return status;
}

/* Fails if a class has no image. */
static enum status check_classes(const struct listing *l, const char *where)
{
    enum status status = STATUS_OK;
    int64_t at = 0;
    for (int c = 0; c < l->classes.count; c++) {
        if (at == l->count || l->files[at].label != c)
            FAIL(STATUS_DATA,
                 "%s: class folder '%s' is empty or holds no images; fill it, or give the list of classes "
                 "with --classes, or remove it, which changes the labels of the classes after it",
                 where, l->classes.names[c]);
        while (at < l->count && l->files[at].label == c)
            at++;
    }
fail:
    return status;
}

void listing_warn_non_images(struct listing *l, const char *where)
{
    if (!l->non_image_count)
        return;
    qsort(l->non_images, (size_t)l->non_image_count, sizeof *l->non_images, compare_strings);
    log_warn_rank0("%s: %lld files that are not named as images, such as %s, are left out", where,
                   (long long)l->non_image_count, l->non_images[0]);
}

enum status listing_complete(struct listing *l, const char *where, bool rooted, const struct class_names *given)
{
    enum status status = STATUS_OK;
    if (l->stray_count)
        log_warn_rank0("%s: %lld files lie outside of the class folders, such as %s, and are left out", where,
                       (long long)l->stray_count, l->first_stray ? l->first_stray : "?");
    listing_warn_non_images(l, where);
    if (!l->classes.count)
        FAIL(STATUS_DATA, "%s: no class folders: images must lie in CLASS/FILE", where);
    sort_classes(&l->classes);
    if (!l->count)
        FAIL(STATUS_DATA, "%s: no images in its %d class folders", where, l->classes.count);
    if (!rooted)
        TRY(check_root(l, where));
    TRY(label_files(l, where, given));
    if (!given)
        TRY(check_classes(l, where));
    for (int64_t i = 1; i < l->count; i++)
        if (!strcmp(l->files[i - 1].path, l->files[i].path))
            FAIL(STATUS_DATA, "%s: holds %s twice", where, l->files[i].path);
fail:
    return status;
}

enum status listing_fingerprint(const struct listing *l, uint64_t *fingerprint)
{
    enum status status = STATUS_OK;
    char text[PATH_MAX + 64];
    *fingerprint = 0;
    for (int64_t i = 0; i < l->count; i++) {
        const struct listed_file *file = &l->files[i];
        int length = snprintf(text, sizeof text, "%016llx %d %llu %s", (unsigned long long)*fingerprint, file->label,
                              (unsigned long long)file->bytes, file->path);
        if (length >= (int)sizeof text)
            FAIL(STATUS_DATA, "%.64s...: name too long", file->path);
        *fingerprint = hash_bytes(text, (size_t)length);
    }
    for (int c = 0; c < l->classes.count; c++) {
        int length = snprintf(text, sizeof text, "%016llx %s", (unsigned long long)*fingerprint, l->classes.names[c]);
        *fingerprint = hash_bytes(text, (size_t)length);
    }
fail:
    return status;
}

void listing_finish(struct listing *l)
{
    for (int64_t i = 0; i < l->count; i++)
        free(l->files[i].path);
    strings_free(l->non_images, l->non_image_count);
    free(l->first_stray);
    free(l->files);
    class_names_finish(&l->classes);
    *l = (struct listing){ 0 };
}
