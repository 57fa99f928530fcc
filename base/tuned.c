/* tuned.c - an array of entries, sorted by key. */
#include "base/tuned.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct entry {
    char key[TUNED_MAX_KEY + 1], value[TUNED_MAX_VALUE + 1];
};

struct tuned {
    struct entry *list;
    int count;
    size_t capacity;
};

enum status tuned_create(struct tuned **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? STATUS_OK : status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
}

void tuned_destroy(struct tuned *t)
{
    if (t)
        free(t->list);
    free(t);
}

/* Returns the index of the key, or where it would have to be inserted. */
static int find(const struct tuned *t, const char *key, bool *found)
{
    int low = 0, high = t->count;
    *found = false;
    while (low < high) {
        int middle = (low + high) / 2, order = strcmp(t->list[middle].key, key);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const char *tuned_get(const struct tuned *t, const char *key)
{
    bool found = false;
    int at = t ? find(t, key, &found) : 0;
    return found ? t->list[at].value : NULL;
}

bool tuned_get_number(const struct tuned *t, const char *key, double *value)
{
    const char *text = tuned_get(t, key);
    char *rest;
    if (!text)
        return false;
    double number = strtod(text, &rest);
    if (rest == text || *rest || !isfinite(number))
        return false;
    *value = number;
    return true;
}

static bool well_formed(const char *text, size_t max_length)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '=')
            return false;
    return length > 0 && length <= max_length;
}

enum status tuned_set(struct tuned *t, const char *key, const char *value)
{
    enum status status = STATUS_OK;
    bool found;
    if (!t)
        return STATUS_OK;
    if (!well_formed(key, TUNED_MAX_KEY) || !well_formed(value, TUNED_MAX_VALUE))
        FAIL(STATUS_DATA, "'%.150s' = '%.100s' is not a valid choice", key, value);
    int at = find(t, key, &found);
    if (!found && t->count == TUNED_MAX_ENTRIES)
        FAIL(STATUS_DATA, "more than %d choices", TUNED_MAX_ENTRIES);
    TRY(array_grow(&t->list, &t->capacity, (size_t)t->count + 1, sizeof *t->list));
    struct entry *e = t->list + at;
    if (!found) {
        memmove(e + 1, e, (size_t)(t->count - at) * sizeof *e);
        t->count++;
        snprintf(e->key, sizeof e->key, "%s", key);
    }
    snprintf(e->value, sizeof e->value, "%s", value);
fail:
    return status;
}

int tuned_count(const struct tuned *t)
{
    return t->count;
}

void tuned_at(const struct tuned *t, int index, const char **key, const char **value)
{
    *key = t->list[index].key;
    *value = t->list[index].value;
}

char *tuned_print(const struct tuned *t)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    for (int i = 0; i < t->count; i++)
        fprintf(out, "%s=%s\n", t->list[i].key, t->list[i].value);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

enum status tuned_parse(struct tuned *t, const char *text, size_t bytes)
{
    enum status status = STATUS_OK;
    char line[TUNED_MAX_KEY + TUNED_MAX_VALUE + 2];
    for (const char *end = text + bytes; text < end;) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t length = stop ? (size_t)(stop - text) : 0;
        if (!stop || length >= sizeof line)
            FAIL(STATUS_DATA, "a choice is truncated or longer than %zu characters", sizeof line - 1);
        memcpy(line, text, length);
        line[length] = 0;
        char *equals = strchr(line, '=');
        if (!equals || strlen(line) != length)
            FAIL(STATUS_DATA, "'%s' is not key=value", line);
        *equals = 0;
        TRY(tuned_set(t, line, equals + 1));
        text = stop + 1;
    }
fail:
    return status;
}
