/* cifar.c - a record is one or two label bytes and 3,072 bytes of planar RGB, 32 x 32 pixels.
 * CIFAR-10 has one label byte, and files data_batch_1.bin, data_batch_2.bin, ... and test_batch.bin.
 * CIFAR-100 has a coarse and a fine label, and files train.bin and test.bin. From a folder one file is read at a time;
 * from an archive, whose members come in any order, all are read at once (184 MB). */
#include "data/sources/cifar.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/sources/archive_reader.h"
#include "data/sources/cifar_names.h"
#include "data/sources/text.h"

enum { SIDE = 32, PIXELS = SIDE * SIDE, PLANES = 3 * PIXELS };
#define LIMIT_FILE ((size_t)1 << 30)

enum role { ROLE_NONE, ROLE_TRAINING, ROLE_TEST, ROLE_NAMES };

struct cifar_file {
    enum role role;
    long batch_number; /* N of data_batch_N.bin */
    char *path;        /* for reading and for messages */
    uint8_t *data;     /* NULL until read */
    size_t bytes;
    int64_t records;
};

struct cifar {
    struct pack_source source; /* must be first: pointers to it are cast to the cifar */
    bool hundred;
    int record_bytes;
    struct cifar_file *files;
    int count;
    size_t capacity;
    char **names;
    int classes;
    enum role source_role; /* of the files that the source reads */
    bool archive;          /* the files come from an archive and are all in memory */
};

static enum role role_of(const struct cifar *c, const char *name, long *batch_number)
{
    *batch_number = 0;
    if (c->hundred)
        return !strcmp(name, "train.bin")              ? ROLE_TRAINING
               : !strcmp(name, "test.bin")             ? ROLE_TEST
               : !strcmp(name, "fine_label_names.txt") ? ROLE_NAMES
                                                       : ROLE_NONE;
    if (!strcmp(name, "test_batch.bin") || !strcmp(name, "batches.meta.txt"))
        return name[0] == 't' ? ROLE_TEST : ROLE_NAMES;
    if (strncmp(name, "data_batch_", 11) != 0 || !isdigit((unsigned char)name[11]))
        return ROLE_NONE;
    char *end;
    *batch_number = strtol(name + 11, &end, 10);
    return strcmp(end, ".bin") ? ROLE_NONE : ROLE_TRAINING;
}

/* Adds a file that will be read from `path`. *file is NULL if CIFAR has no file of that name. */
static enum status add_file(struct cifar *c, const char *path, struct cifar_file **file)
{
    enum status status = STATUS_OK;
    long batch_number;
    enum role role = role_of(c, basename(path), &batch_number);
    *file = NULL;
    if (role == ROLE_NONE)
        return STATUS_OK;
    TRY(array_grow(&c->files, &c->capacity, (size_t)c->count + 1, sizeof *c->files));
    *file = &c->files[c->count];
    **file = (struct cifar_file){ .role = role, .batch_number = batch_number, .path = strdup(path) };
    if (!(*file)->path)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    c->count++;
fail:
    return status;
}

static enum status scan_folder(struct cifar *c, const char *folder)
{
    enum status status = STATUS_OK;
    struct cifar_file *file;
    DIR *handle = opendir(folder);
    if (!handle)
        FAIL(STATUS_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(handle));) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < PATH_MAX)
            TRY(add_file(c, path, &file));
    }
fail:
    if (handle)
        closedir(handle);
    return status;
}

static enum status scan_archive(struct cifar *c, const char *path)
{
    enum status status = STATUS_OK;
    struct archive_reader *reader = NULL;
    bool end = false;
    TRY(archive_reader_open(&reader, path));
    for (;;) {
        struct member member;
        struct cifar_file *file = NULL;
        size_t capacity = 0;
        TRY(archive_reader_next(reader, &member, &end));
        if (end)
            break;
        if (member.kind != MEMBER_FILE)
            continue;
        TRY(add_file(c, member.name, &file));
        if (file)
            TRY(archive_reader_content(reader, LIMIT_FILE, &file->data, &capacity, &file->bytes));
    }
fail:
    archive_reader_close(reader);
    return status;
}

static int compare_files(const void *a, const void *b)
{
    const struct cifar_file *x = a, *y = b;
    if (x->role != y->role)
        return x->role < y->role ? -1 : 1;
    return x->batch_number != y->batch_number
               ? (x->batch_number > y->batch_number) - (x->batch_number < y->batch_number)
               : strcmp(x->path, y->path);
}

/* Reads a file that is not in memory yet, and checks the length if it holds records. */
static enum status load_file(const struct cifar *c, struct cifar_file *file)
{
    enum status status = STATUS_OK;
    if (!file->data)
        TRY(file_read(file->path, LIMIT_FILE, (char **)&file->data, &file->bytes));
    if (file->role != ROLE_NAMES && (!file->bytes || file->bytes % (size_t)c->record_bytes))
        FAIL(STATUS_DATA, "%s: has %zu bytes, which is not a whole number of records of %d bytes", file->path,
             file->bytes, c->record_bytes);
fail:
    return status;
}

/* Reads the class names, one a line. There must be one for each class. */
static enum status read_names(struct cifar *c, struct cifar_file *file)
{
    enum status status = STATUS_OK;
    int count = 0;
    char *text = NULL, *rest;
    TRY(load_file(c, file));
    TRY(text_copy(&text, (const char *)file->data, file->bytes, file->path));
    for (char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest), count++) {
        if (count < c->classes) {
            free(c->names[count]);
            c->names[count] = strdup(line);
            if (!c->names[count])
                FAIL(STATUS_NOMEM, "%s: out of memory", file->path);
        }
    }
    if (count != c->classes)
        FAIL(STATUS_DATA, "%s: holds %d names, but there are %d classes", file->path, count, c->classes);
fail:
    free(text);
    return status;
}

static enum status prepare_names(struct cifar *c)
{
    enum status status = STATUS_OK;
    c->classes = c->hundred ? 100 : 10;
    TRY(strings_copy(&c->names, (char *const *)(c->hundred ? cifar100_names : cifar10_names), c->classes));
    for (int i = 0; i < c->count; i++)
        if (c->files[i].role == ROLE_NAMES)
            TRY(read_names(c, &c->files[i]));
fail:
    return status;
}

/* Fails if a file is there twice. Warns if only some of CIFAR-10's five training files are there. */
static enum status check_files(const struct cifar *c, const char *path)
{
    enum status status = STATUS_OK;
    enum { FILES = 5 };
    bool present[FILES + 1] = { false };
    int found = 0, first = FILES;
    for (int i = 0; i < c->count; i++) {
        const struct cifar_file *p = &c->files[i];
        if (i && p->role == p[-1].role && p->batch_number == p[-1].batch_number)
            FAIL(STATUS_DATA, "%s: holds %s twice, or also as %s", path, p->path, p[-1].path);
        if (p->role == ROLE_TRAINING && p->batch_number >= 1 && p->batch_number <= FILES)
            present[p->batch_number] = true;
    }
    for (int i = FILES; i >= 1; i--) {
        found += present[i];
        first = present[i] ? first : i;
    }
    if (!c->hundred && found && found < FILES)
        log_warn("%s: holds %d of CIFAR-10's %d training files; data_batch_%d.bin is missing", path, found, FILES,
                 first);
fail:
    return status;
}

enum status cifar_open(struct cifar **out, const char *path, bool hundred)
{
    enum status status = STATUS_OK;
    char inner[PATH_MAX];
    struct cifar *c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    c->hundred = hundred;
    c->record_bytes = PLANES + (hundred ? 2 : 1);
    if (file_is_folder(path)) {
        snprintf(inner, sizeof inner, "%s/%s", path, hundred ? "cifar-100-binary" : "cifar-10-batches-bin");
        TRY(scan_folder(c, file_is_folder(inner) ? inner : path));
    } else {
        c->archive = true;
        TRY(scan_archive(c, path));
    }
    if (c->count)
        qsort(c->files, (size_t)c->count, sizeof *c->files, compare_files);
    TRY(check_files(c, path));
    TRY(prepare_names(c));
    if (!cifar_source(c, true) && !cifar_source(c, false))
        FAIL(STATUS_DATA, "%s: holds none of %s", path,
             hundred ? "train.bin, test.bin" : "data_batch_1.bin, data_batch_2.bin, ..., test_batch.bin");
    *out = c;
    return STATUS_OK;
fail:
    cifar_close(c);
    return status;
}

/* The number of records in a file. A file that is too short counts as one, so that reading it fails. */
static int64_t records_of(const struct cifar *c, const struct cifar_file *file)
{
    struct stat info;
    int64_t bytes = file->data ? (int64_t)file->bytes : stat(file->path, &info) == 0 ? info.st_size : 0;
    return bytes < c->record_bytes ? 1 : bytes / c->record_bytes;
}

/* Finds the file and the offset of sample `index` of the source. Frees the files before it, unless they come from an
 * archive. */
static enum status find_record(struct cifar *c, int64_t index, struct cifar_file **file, size_t *offset)
{
    enum status status = STATUS_OK;
    *file = NULL;
    for (int i = 0; i < c->count; i++) {
        struct cifar_file *p = &c->files[i];
        if (p->role != c->source_role)
            continue;
        int64_t records = p->records;
        if (index < records) {
            TRY(load_file(c, p));
            *file = p;
            *offset = (size_t)index * (size_t)c->record_bytes;
            break;
        }
        index -= records;
        if (!c->archive) {
            free(p->data);
            p->data = NULL;
        }
    }
    if (!*file || *offset + (size_t)c->record_bytes > (*file)->bytes)
        FAIL(STATUS_DATA, "%s: the file changed while it was read", *file ? (*file)->path : "CIFAR");
fail:
    return status;
}

static enum status read_record(struct pack_source *source, int64_t index, struct pack_item *item)
{
    enum status status = STATUS_OK;
    struct cifar *c = (struct cifar *)source;
    struct cifar_file *file;
    size_t offset = 0;
    item->label = 0;
    item->bytes = 0;
    snprintf(item->name, sizeof item->name, "record %lld", (long long)index);
    TRY(find_record(c, index, &file, &offset));
    const uint8_t *record = file->data + offset;
    size_t labels = (size_t)c->record_bytes - PLANES;
    TRY(buffer_grow(&item->data, &item->capacity, PLANES));
    item->label = record[labels - 1];
    snprintf(item->name, sizeof item->name, "%s: record %zu", file->path, offset / (size_t)c->record_bytes);
    item->bytes = PLANES;
    memcpy(item->data, record + labels, PLANES);
    if (item->label >= c->classes)
        FAIL(STATUS_DATA, "%s: label %d, but there are %d classes", item->name, item->label, c->classes);
fail:
    return status;
}

static enum status decode_record(const struct pack_source *source, const struct pack_item *item, struct image *image,
                                 unsigned *notes)
{
    enum status status = STATUS_OK;
    (void)source;
    (void)notes;
    TRY(image_allocate(image, SIDE, SIDE));
    for (int i = 0; i < PIXELS; i++)
        for (int p = 0; p < 3; p++)
            image->pixels[3 * i + p] = item->data[p * PIXELS + i];
fail:
    return status;
}

struct pack_source *cifar_source(struct cifar *c, bool training)
{
    int64_t total = 0;
    char text[64];
    uint64_t fingerprint = 0;
    c->source_role = training ? ROLE_TRAINING : ROLE_TEST;
    for (int i = 0; i < c->count; i++) {
        struct cifar_file *file = &c->files[i];
        if (file->role != c->source_role)
            continue;
        file->records = records_of(c, file);
        total += file->records;
        snprintf(text, sizeof text, "%016llx %ld %lld", (unsigned long long)fingerprint, file->batch_number,
                 (long long)file->records);
        fingerprint = hash_bytes(text, strlen(text));
    }
    c->source = (struct pack_source){ .read = read_record,
                                      .decode = decode_record,
                                      .sample_bytes = PLANES,
                                      .total = total,
                                      .fingerprint = fingerprint,
                                      .class_count = c->classes,
                                      .class_names = c->names };
    return total ? &c->source : NULL;
}

void cifar_close(struct cifar *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        free(c->files[i].path);
        free(c->files[i].data);
    }
    strings_free(c->names, c->classes);
    free(c->files);
    free(c);
}
