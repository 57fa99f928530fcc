/* plan_table.c - see plan_table.h. The table is a list that is searched from its start: it has some hundred entries.
 * The file is sorted by key. */
#include "layers/backend/cuda/plan_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { MAX_FILE_BYTES = 4 << 20, MAX_ENTRIES = 4096 }; /* limits of a file: bytes, lines */

void plan_table_finish(struct plan_table *table)
{
    free(table->entries);
    *table = (struct plan_table){ 0 };
}

const struct plan_entry *plan_table_find(const struct plan_table *table, const char *key)
{
    for (int i = 0; i < table->count; i++)
        if (strcmp(table->entries[i].key, key) == 0)
            return &table->entries[i];
    return NULL;
}

enum status plan_table_set(struct plan_table *table, const struct plan_entry *entry)
{
    enum status status = STATUS_OK;
    struct plan_entry *known = (struct plan_entry *)plan_table_find(table, entry->key);
    if (known) {
        *known = *entry;
        return STATUS_OK;
    }
    if (table->count == MAX_ENTRIES)
        FAIL(STATUS_DATA, "the table has more than %d plans", MAX_ENTRIES);
    TRY(array_grow(&table->entries, &table->capacity, (size_t)table->count + 1, sizeof *table->entries));
    table->entries[table->count++] = *entry;
fail:
    return status;
}

/* ---- the file ---- */

/* Copies the characters before the next one of `ends`. Returns false if there are none, too many, or unprintable
 * ones. */
static bool take_word(const char **text, const char *ends, char *to, size_t size)
{
    size_t n = strcspn(*text, ends);
    if (n == 0 || n >= size)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((*text)[i] <= ' ' || (*text)[i] > '~')
            return false;
    memcpy(to, *text, n);
    to[n] = '\0';
    *text += n;
    return true;
}

/* Parses a line without its newline. */
static bool parse_line(const char *line, struct plan_entry *entry)
{
    char value[32], *end;
    float *figures[] = { &entry->ms, &entry->tflops };
    *entry = (struct plan_entry){ 0 };
    if (!take_word(&line, "=", entry->key, sizeof entry->key) || *line++ != '=' ||
        !take_word(&line, " ", entry->choice, sizeof entry->choice))
        return false;
    for (int i = 0; i < 2 && *line; i++) {
        line += *line == ' ';
        if (!take_word(&line, " ", value, sizeof value))
            return false;
        *figures[i] = strtof(value, &end);
        if (*end || !(*figures[i] >= 0 && *figures[i] < 1e9f))
            return false;
    }
    return !*line || (*line++ == ' ' && take_word(&line, " ", entry->kernel, sizeof entry->kernel) && !*line);
}

enum status plan_table_read(struct plan_table *table, const char *path)
{
    enum status status = STATUS_OK;
    struct plan_entry entry;
    char *text = NULL, *line, *next;
    size_t bytes = 0;
    int line_number = 1;
    TRY(file_read(path, MAX_FILE_BYTES, &text, &bytes));
    if (strlen(text) != bytes)
        FAIL(STATUS_DATA, "%s is not a table of plans: it contains a byte 0", path);
    for (line = text; *line; line = next, line_number++) {
        next = line + strcspn(line, "\n");
        next += *next ? (*next = '\0', 1) : 0;
        if (line[0] == '#' || !line[0])
            continue;
        if (!parse_line(line, &entry))
            FAIL(STATUS_DATA, "%s:%d: expected 'graph=choice milliseconds TFLOP/s kernel'", path, line_number);
        TRY(plan_table_set(table, &entry));
    }
fail:
    free(text);
    return status;
}

void plan_entry_print(const struct plan_entry *e, char line[PLAN_LINE])
{
    int at = snprintf(line, PLAN_LINE, "%s=%s", e->key, e->choice);
    if (e->ms > 0)
        at += snprintf(line + at, PLAN_LINE - (size_t)at, " %.4f %.4g", (double)e->ms, (double)e->tflops);
    if (e->ms > 0 && e->kernel[0])
        at += snprintf(line + at, PLAN_LINE - (size_t)at, " %s", e->kernel);
    snprintf(line + at, PLAN_LINE - (size_t)at, "\n");
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct plan_entry *)a)->key, ((const struct plan_entry *)b)->key);
}

enum status plan_table_write(const struct plan_table *table, const char *path, const char *heading)
{
    enum status status = STATUS_OK;
    size_t size = (size_t)(table->count + 2) * PLAN_LINE, used = 0;
    char *text = malloc(size), line[PLAN_LINE];
    struct plan_entry *sorted = malloc((size_t)table->count * sizeof *sorted + 1);
    if (!text || !sorted)
        FAIL(STATUS_NOMEM, "out of memory for a table of plans");
    if (table->count > 0)
        memcpy(sorted, table->entries, (size_t)table->count * sizeof *sorted);
    qsort(sorted, (size_t)table->count, sizeof *sorted, by_key);
    used = (size_t)snprintf(text, size, "# %.200s\n# graph=choice milliseconds TFLOP/s kernel\n", heading);
    for (int i = 0; i < table->count; i++) {
        plan_entry_print(&sorted[i], line);
        used += (size_t)snprintf(text + used, size - used, "%s", line);
    }
    TRY(file_write(path, text, used));
fail:
    free(text);
    free(sorted);
    return status;
}
