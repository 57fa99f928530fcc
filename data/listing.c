/* listing.c - collects paths, finds the classes among them, sorts both bytewise. */
#include "data/listing.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"

bool listing_wants(const char *path)
{
    for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
        if (*part == '.' || *part == '/' || !*part)
            return false;
    return true;
}

static enum status add_class(struct listing *l, const char *path)
{
    enum status status = STATUS_OK;
    size_t length = strcspn(path, "/");
    /* files mostly come class by class */
    if (l->class_count && !strncmp(l->classes[l->class_count - 1], path, length) &&
        !l->classes[l->class_count - 1][length])
        return STATUS_OK;
    if ((size_t)l->class_count == l->class_capacity) {
        size_t capacity = l->class_capacity ? 2 * l->class_capacity : 64;
        char **grown = realloc(l->classes, capacity * sizeof *grown);
        if (!grown)
            FAIL(STATUS_NOMEM, "out of memory for %zu classes", capacity);
        l->classes = grown;
        l->class_capacity = capacity;
    }
    l->classes[l->class_count] = strndup(path, length);
    if (!l->classes[l->class_count])
        FAIL(STATUS_NOMEM, "out of memory for %d classes", l->class_count);
    l->class_count++;
fail:
    return status;
}

enum status listing_add_folder(struct listing *l, const char *path)
{
    return add_class(l, path);
}

enum status listing_add_entry(struct listing *l, const char *path, uint64_t offset, uint64_t bytes)
{
    enum status status = STATUS_OK;
    if ((size_t)l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 1024;
        struct listed *grown = realloc(l->files, capacity * sizeof *grown);
        if (!grown)
            FAIL(STATUS_NOMEM, "out of memory for %zu files", capacity);
        l->files = grown;
        l->capacity = capacity;
    }
    l->files[l->count] = (struct listed){ strdup(path), 0, l->count, offset, bytes };
    if (!l->files[l->count].path)
        FAIL(STATUS_NOMEM, "out of memory for %lld files", (long long)l->count);
    l->count++;
fail:
    return status;
}

enum status listing_add_file(struct listing *l, const char *path, uint64_t offset, uint64_t bytes)
{
    enum status status = STATUS_OK;
    if (!strchr(path, '/')) {
        l->loose++;
        return STATUS_OK;
    }
    TRY(add_class(l, path));
    TRY(listing_add_entry(l, path, offset, bytes));
fail:
    return status;
}

static int compare_classes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_files(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    return x->label != y->label ? x->label - y->label : strcmp(x->path, y->path);
}

/* Sorts the classes and drops repetitions. */
static void sort_classes(struct listing *l)
{
    int kept = 0;
    qsort(l->classes, (size_t)l->class_count, sizeof *l->classes, compare_classes);
    for (int i = 0; i < l->class_count; i++) {
        if (kept && !strcmp(l->classes[kept - 1], l->classes[i]))
            free(l->classes[i]);
        else
            l->classes[kept++] = l->classes[i];
    }
    l->class_count = kept;
}

static int label_of(const struct listing *l, const char *path)
{
    size_t length = strcspn(path, "/");
    int low = 0, high = l->class_count - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        int order = strncmp(l->classes[middle], path, length);
        if (order < 0)
            low = middle + 1;
        else
            high = middle; /* a longer name with this beginning sorts behind it */
    }
    return low;
}

/* A wrong root is the usual mistake: its folders are then taken for classes. */
static enum status check_root(const struct listing *l, const char *where)
{
    enum status status = STATUS_OK;
    bool split = l->class_count == 1;
    for (int i = 0; i < l->class_count; i++)
        split |= !strcmp(l->classes[i], "train") || !strcmp(l->classes[i], "val") || !strcmp(l->classes[i], "test");
    for (int64_t i = 0; i < l->count && split; i++)
        split = strchr(strchr(l->files[i].path, '/') + 1, '/') != NULL;
    if (split)
        FAIL(STATUS_DATA, "%s: its folders hold only folders; to take those of '%s' as the classes, give --root %s",
             where, l->classes[0], l->classes[0]);
fail:
    return status;
}

enum status listing_complete(struct listing *l, const char *where, bool rooted)
{
    enum status status = STATUS_OK;
    int64_t at = 0;
    if (l->loose)
        log_warn("%s: %lld files lie outside of the class folders and are left out", where, (long long)l->loose);
    if (!l->class_count)
        FAIL(STATUS_DATA, "%s: no class folders: images must lie in CLASS/FILE", where);
    sort_classes(l);
    if (!l->count)
        FAIL(STATUS_DATA, "%s: no images in its %d class folders", where, l->class_count);
    for (int64_t i = 0; i < l->count; i++)
        l->files[i].label = label_of(l, l->files[i].path);
    qsort(l->files, (size_t)l->count, sizeof *l->files, compare_files);
    if (!rooted)
        TRY(check_root(l, where));
    for (int c = 0; c < l->class_count; c++) {
        if (at == l->count || l->files[at].label != c)
            FAIL(STATUS_DATA, "%s: class folder '%s' is empty; fill or remove it", where, l->classes[c]);
        while (at < l->count && l->files[at].label == c)
            at++;
    }
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
        const struct listed *file = &l->files[i];
        int length = snprintf(text, sizeof text, "%016llx %d %llu %s", (unsigned long long)*fingerprint, file->label,
                              (unsigned long long)file->bytes, file->path);
        if (length >= (int)sizeof text)
            FAIL(STATUS_DATA, "%.64s...: name too long", file->path);
        *fingerprint = hash_bytes(text, (size_t)length);
    }
fail:
    return status;
}

void listing_finish(struct listing *l)
{
    for (int64_t i = 0; i < l->count; i++)
        free(l->files[i].path);
    for (int i = 0; i < l->class_count; i++)
        free(l->classes[i]);
    free(l->files);
    free(l->classes);
    *l = (struct listing){ 0 };
}
