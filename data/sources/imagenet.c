/* imagenet.c - lists the tars in the training tar from their headers alone, and the validation images with their
 * labels. */
#include "data/sources/imagenet.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/log.h"
#include "data/format/format.h"
#include "data/sources/folder_internal.h"
#include "data/sources/labels.h"
#include "data/write/pack_progress.h"

#define LIMIT_LABELS ((size_t)1 << 30)

struct class_tars {
    struct folder *folder;
    struct pack_progress progress;
    const char *class;
    int classes;
    int64_t non_tars; /* members that are not tars */
    int without_end;  /* inner tars without an end-of-archive mark */
    char last_without_end[LIMIT_NAME + 1];
};

static enum status open_tar(struct folder *f, struct tar_range *range)
{
    enum status status = STATUS_OK;
    bool is_tar = false;
    TRY(folder_open_tar(f, range, &is_tar));
    if (!is_tar)
        FAIL(STATUS_DATA, "%s: not an uncompressed tar archive, as ImageNet's are", f->path);
fail:
    return status;
}

/* ---- training ---- */

/* Adds a member of a class's tar. */
static enum status add_image(void *context, const struct member *member, uint64_t offset)
{
    enum status status = STATUS_OK;
    struct class_tars *t = context;
    char path[PATH_MAX];
    const char *name = basename(member->name);
    if (member->kind == MEMBER_FOLDER || !listing_accepts(name))
        return STATUS_OK;
    if (snprintf(path, sizeof path, "%s/%s", t->class, name) >= PATH_MAX)
        FAIL(STATUS_DATA, "%s: %s.tar: name too long", t->folder->path, t->class);
    TRY(listing_add_file(&t->folder->listing, path, offset, (uint64_t)member->bytes, folder_member_fault(member)));
fail:
    return status;
}

/* Lists the class's tar that is a member of the outer tar. */
static enum status add_class_tar(void *context, const struct member *member, uint64_t offset)
{
    enum status status = STATUS_OK;
    struct class_tars *t = context;
    char class[LIMIT_NAME + 1], where[PATH_MAX];
    const char *name = basename(member->name);
    size_t length = strlen(name);
    enum archive_end end;
    if (member->kind == MEMBER_FOLDER)
        return STATUS_OK;
    if (member->kind != MEMBER_FILE || length < 5 || strcasecmp(name + length - 4, ".tar") || !listing_accepts(name)) {
        t->non_tars++;
        return STATUS_OK;
    }
    if (length - 4 > LIMIT_NAME)
        FAIL(STATUS_DATA, "%s: %.64s...: a class name of %zu bytes", t->folder->path, name, length - 4);
    memcpy(class, name, length - 4);
    class[length - 4] = 0;
    snprintf(where, sizeof where, "%s: %s", t->folder->path, name);
    struct tar_range inner = { where, t->folder->archive_fd, NULL, offset, (uint64_t)member->bytes };
    t->class = class;
    TRY(listing_add_folder(&t->folder->listing, class));
    TRY(tar_list(&inner, add_image, t, &end));
    if (end != ARCHIVE_END_GOOD && ++t->without_end)
        strcpy(t->last_without_end, class);
    t->classes++;
    pack_progress_update(&t->progress, t->folder->listing.count, 0);
fail:
    return status;
}

enum status imagenet_open_train(struct folder **out, const char *path, const struct class_names *given)
{
    enum status status = STATUS_OK;
    struct tar_range range;
    struct folder *f = NULL;
    struct class_tars t = { .class = NULL };
    enum archive_end end;
    TRY(folder_create(&f, path));
    TRY(open_tar(f, &range));
    t.folder = f;
    pack_progress_start(&t.progress, "listing the training archive", 0);
    status = tar_list(&range, add_class_tar, &t, &end);
    pack_progress_end(&t.progress);
    TRY(status);
    archive_warn_end(path, end);
    if (t.without_end)
        log_warn("%s: %d of its tars, such as %s.tar, do not end in an end-of-archive mark; they may have been cut off",
                 path, t.without_end, t.last_without_end);
    if (!t.classes)
        FAIL(STATUS_DATA, "%s: holds no .tar for any class: not ImageNet's training archive", path);
    if (t.non_tars)
        log_warn("%s: %lld members are not tars and are left out", path, (long long)t.non_tars);
    TRY(listing_complete(&f->listing, path, true, given));
    TRY(folder_complete(f));
    *out = f;
    return STATUS_OK;
fail:
    folder_close(f);
    return status;
}

/* ---- validation ---- */

static enum status add_val_image(void *context, const struct member *member, uint64_t offset)
{
    enum status status = STATUS_OK;
    struct folder *f = context;
    if (member->kind == MEMBER_FOLDER || !listing_accepts(member->name))
        return STATUS_OK;
    TRY(listing_add_entry(&f->listing, member->name, offset, (uint64_t)member->bytes, folder_member_fault(member)));
fail:
    return status;
}

/* Compares the files' names without their folders. Label files that do not name images are in this order. */
static int compare_images(const void *a, const void *b)
{
    const struct listed_file *x = a, *y = b;
    return strcmp(basename(x->path), basename(y->path));
}

/* If the image lies in a folder that is named like a class, that must be the class of its label. */
static enum status check_folder(const struct folder *f, const struct listed_file *file, const char *label_path)
{
    enum status status = STATUS_OK;
    const struct class_names *c = &f->listing.classes;
    const char *name = basename(file->path), *folder = name - (name > file->path);
    while (folder > file->path && folder[-1] != '/')
        folder--;
    int class = name > file->path ? class_names_find(c, folder, (size_t)(name - 1 - folder)) : -1;
    if (class >= 0 && class != file->label)
        FAIL(STATUS_DATA, "%s: says that %s is of class '%s', but it lies in the folder of '%s'", label_path,
             file->path, c->names[file->label], c->names[class]);
fail:
    return status;
}

static enum status label_images(struct folder *f, const struct labels *labels, const char *label_path)
{
    enum status status = STATUS_OK;
    struct listing *l = &f->listing;
    for (int64_t i = 0; i < l->count; i++) {
        struct listed_file *file = &l->files[i];
        const char *name = labels_find(labels, i, file->path);
        if (i && !strcmp(basename(file[-1].path), basename(file->path)))
            FAIL(STATUS_DATA, "%s: holds %s twice, as %s and %s", f->path, basename(file->path), file[-1].path,
                 file->path);
        if (!name)
            FAIL(STATUS_DATA, "%s: has no label for %s", label_path, file->path);
        file->label = class_names_find(&l->classes, name, strlen(name));
        if (file->label < 0)
            FAIL(STATUS_DATA, "%s: %s is of class '%s', which the training images do not have", label_path, file->path,
                 name);
        TRY(check_folder(f, file, label_path));
    }
    if (labels->count != l->count && !labels->by_image)
        FAIL(STATUS_DATA, "%s: %lld labels for %lld images", label_path, (long long)labels->count, (long long)l->count);
    if (labels->count > l->count)
        log_warn("%s: has labels for %lld images that the archive does not hold", label_path,
                 (long long)(labels->count - l->count));
fail:
    return status;
}

static enum status read_labels(struct labels *labels, const char *path, const char *synset_path)
{
    enum status status = STATUS_OK;
    char *text = NULL, *synsets = NULL;
    size_t bytes = 0, synset_bytes = 0;
    TRY(file_read(path, LIMIT_LABELS, &text, &bytes));
    if (synset_path)
        TRY(file_read(synset_path, LIMIT_LABELS, &synsets, &synset_bytes));
    TRY(labels_parse(labels, (struct label_file){ path, text, bytes },
                     (struct label_file){ synset_path, synsets, synset_bytes }));
fail:
    free(text);
    free(synsets);
    return status;
}

enum status imagenet_open_val(struct folder **out, const char *path, const char *label_path, const char *synsets,
                              const struct class_names *classes)
{
    enum status status = STATUS_OK;
    struct tar_range range;
    struct folder *f = NULL;
    struct labels labels = { .text = NULL };
    enum archive_end end;
    TRY(read_labels(&labels, label_path, synsets));
    TRY(folder_create(&f, path));
    TRY(open_tar(f, &range));
    TRY(tar_list(&range, add_val_image, f, &end));
    archive_warn_end(path, end);
    listing_warn_non_images(&f->listing, path);
    if (!f->listing.count)
        FAIL(STATUS_DATA, "%s: holds no images", path);
    qsort(f->listing.files, (size_t)f->listing.count, sizeof *f->listing.files, compare_images);
    TRY(class_names_copy(&f->listing.classes, classes));
    TRY(class_names_sort(&f->listing.classes, path));
    TRY(label_images(f, &labels, label_path));
    TRY(folder_complete(f));
    *out = f;
    f = NULL;
fail:
    labels_finish(&labels);
    folder_close(f);
    return status;
}
