/* class_names.c - class names from a list of lines or from a dataset's index, and a permutation that sorts them. */
#include "data/sources/class_names.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/format/format.h"
#include "data/format/index.h"
#include "data/format/names.h"
#include "data/sources/text.h"

#define LIMIT_LIST ((size_t)512 << 20) /* bytes; LIMIT_CLASSES names need less */

static int compare_labels(const void *a, const void *b, void *context)
{
    char *const *names = context;
    return strcmp(names[*(const int *)a], names[*(const int *)b]);
}

enum status class_names_sort(struct class_names *c, const char *name)
{
    enum status status = STATUS_OK;
    free(c->sorted);
    c->sorted = malloc(((size_t)c->count + 1) * sizeof *c->sorted);
    if (!c->sorted)
        FAIL(STATUS_NOMEM, "%s: out of memory for %d classes", name, c->count);
    for (int i = 0; i < c->count; i++)
        c->sorted[i] = i;
    qsort_r(c->sorted, (size_t)c->count, sizeof *c->sorted, compare_labels, c->names);
    for (int i = 1; i < c->count; i++)
        if (!strcmp(c->names[c->sorted[i - 1]], c->names[c->sorted[i]]))
            FAIL(STATUS_DATA, "%s: has class '%s' twice", name, c->names[c->sorted[i]]);
fail:
    return status;
}

int class_names_find(const struct class_names *c, const char *text, size_t length)
{
    int low = 0, high = c->count - 1;
    while (low <= high) {
        int middle = low + (high - low) / 2, label = c->sorted[middle];
        int order = strncmp(c->names[label], text, length);
        if (!order && !c->names[label][length])
            return label;
        if (order < 0)
            low = middle + 1;
        else
            high = middle - 1; /* also if the name begins with the text: longer names come after shorter ones */
    }
    return -1;
}

enum status class_names_parse(struct class_names *c, const char *text, size_t bytes, const char *name)
{
    enum status status = STATUS_OK;
    char *copy = NULL, *rest;
    int lines = 0;
    *c = (struct class_names){ .names = NULL };
    TRY(text_copy(&copy, text, bytes, name));
    for (const char *at = copy; *at; at++)
        lines += *at == '\n' || *at == '\r';
    c->names = calloc((size_t)lines + 1, sizeof *c->names);
    if (!c->names)
        FAIL(STATUS_NOMEM, "%s: out of memory for its names", name);
    for (char *line = strtok_r(copy, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        if (!class_name_ok(line))
            FAIL(STATUS_DATA, "%s: '%.64s' cannot be the name of a class", name, line);
        c->names[c->count] = strdup(line);
        if (!c->names[c->count++])
            FAIL(STATUS_NOMEM, "%s: out of memory for its names", name);
    }
    if (!c->count || c->count > LIMIT_CLASSES)
        FAIL(STATUS_DATA, "%s: %d class names, one a line; a dataset has 1 to %d", name, c->count, LIMIT_CLASSES);
    TRY(class_names_sort(c, name));
fail:
    free(copy);
    if (status != STATUS_OK)
        class_names_finish(c);
    return status;
}

enum status class_names_read(struct class_names *c, const char *path)
{
    enum status status = STATUS_OK;
    struct index index = { .class_names = NULL };
    struct class_names found = { .names = NULL };
    char *text = NULL;
    size_t bytes = 0;
    *c = (struct class_names){ .names = NULL };
    if (file_is_folder(path)) {
        TRY(index_read(&index, path));
        found = (struct class_names){ index.class_names, index.class_count, NULL };
        TRY(class_names_copy(c, &found));
        TRY(class_names_sort(c, path));
    } else {
        TRY(file_read(path, LIMIT_LIST, &text, &bytes));
        TRY(class_names_parse(c, text, bytes, path));
    }
fail:
    free(text);
    index_finish(&index);
    return status;
}

enum status class_names_copy(struct class_names *c, const struct class_names *from)
{
    *c = (struct class_names){ .count = from->count };
    return strings_copy(&c->names, from->names, from->count);
}

void class_names_finish(struct class_names *c)
{
    strings_free(c->names, c->count);
    free(c->sorted);
    *c = (struct class_names){ .names = NULL };
}
