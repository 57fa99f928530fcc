/* config_value.c - converts one written value to the type of its key, checks its range and stores it in struct
 * config. */
#include "trainer/config/config_internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(enum config_arch) == sizeof(int) && sizeof(enum shuffle) == sizeof(int),
               "choices are stored through int");

static void *member(const struct config *config, size_t offset)
{
    return (char *)config + offset;
}

static const char *quote_item(const struct config_scalar *item, char out[80])
{
    snprintf(out, 80, strlen(item->text) > 60 ? "'%.60s...'" : "'%s'", item->text);
    return out;
}

/* Reports "LOCATION: KEY: expected WHAT, got 'TEXT'". */
static enum status report_wrong_type(const struct config_key *key, const struct config_source *source,
                                     const struct config_scalar *item, const char *what)
{
    char location[CONFIG_LOCATION], text[80];
    return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: %s: expected %s, got %s%s",
                         config_location(source, item->line, item->column, location), key->name, what,
                         item->plain ? "" : "the text ", quote_item(item, text));
}

static void range_text(const struct config_key *key, char *out, size_t capacity)
{
    if (key->type == CONFIG_INT || key->type == CONFIG_INT64)
        snprintf(out, capacity, key->max == INT_MAX ? "at least %lld" : "%lld to %lld", (long long)key->min,
                 (long long)key->max);
    else if (isinf(key->high))
        snprintf(out, capacity, "%s %g", key->low_excluded ? "above" : "at least", key->low);
    else
        snprintf(out, capacity, "%s%g %s %g", key->low_excluded ? "above " : "", key->low,
                 key->high_excluded ? "to below" : "to", key->high);
}

static enum status out_of_range(const struct config_key *key, const struct config_source *source,
                                const struct config_scalar *item)
{
    char location[CONFIG_LOCATION], range[96], text[80];
    range_text(key, range, sizeof range);
    return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: %s must be %s, not %s",
                         config_location(source, item->line, item->column, location), key->name, range,
                         quote_item(item, text));
}

/* [+-]digits without leading zeros, which some readers of YAML take for octal. */
static bool looks_int(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t digits = strspn(s, "0123456789");
    return digits && s[digits] == 0 && (s[0] != '0' || digits == 1);
}

static enum status read_int(const struct config_key *key, const struct config_source *source,
                            const struct config_scalar *item, int64_t *out)
{
    char what[48];
    snprintf(what, sizeof what, key->unset_word ? "a whole number or '%s'" : "a whole number", key->unset_word);
    if (!item->plain || !looks_int(item->text))
        return report_wrong_type(key, source, item, what);
    errno = 0;
    long long v = strtoll(item->text, NULL, 10);
    if (errno == ERANGE || v < key->min || v > key->max)
        return out_of_range(key, source, item);
    *out = v;
    return STATUS_OK;
}

/* [+-]digits[.digits][e[+-]digits], with a digit before or after the point. */
static bool looks_real(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t digits = strspn(s, "0123456789");
    if (digits > 1 && s[0] == '0')
        return false;
    s += digits;
    if (*s == '.') {
        size_t more = strspn(s + 1, "0123456789");
        digits += more;
        s += 1 + more;
    }
    if (!digits)
        return false;
    if (*s == 'e' || *s == 'E') {
        s += 1 + (s[1] == '-' || s[1] == '+');
        size_t exponent = strspn(s, "0123456789");
        if (!exponent)
            return false;
        s += exponent;
    }
    return *s == 0;
}

static enum status read_real(const struct config_key *key, const struct config_source *source,
                             const struct config_scalar *item, double *out)
{
    if (!item->plain || !looks_real(item->text))
        return report_wrong_type(key, source, item,
                                 key->type == CONFIG_REAL && key->unset_word ? "a number or 'auto'" : "a number");
    double v = strtod(item->text, NULL);
    if (!isfinite(v) || v < key->low || v > key->high || (key->low_excluded && v == key->low) ||
        (key->high_excluded && v == key->high))
        return out_of_range(key, source, item);
    *out = v;
    return STATUS_OK;
}

static enum status read_choice(const struct config_key *key, const struct config_source *source,
                               const struct config_scalar *item, int *out)
{
    char what[256] = "one of";
    for (int i = 0; key->choices[i]; i++) {
        bool literal = strcmp(key->choices[i], "true") == 0 || strcmp(key->choices[i], "false") == 0;
        if (strcmp(item->text, key->choices[i]) == 0 && (item->plain || !literal)) {
            *out = key->first_choice + i;
            return STATUS_OK;
        }
        snprintf(what + strlen(what), sizeof what - strlen(what), "%s %s", i ? "," : "", key->choices[i]);
    }
    return report_wrong_type(key, source, item, what);
}

static enum status read_text(const struct config_key *key, const struct config_source *source,
                             const struct config_scalar *item, char **out)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION];
    config_location(source, item->line, item->column, location);
    if (item->plain && (strcmp(item->text, "null") == 0 || strcmp(item->text, "~") == 0 || !item->text[0]))
        FAIL(STATUS_USAGE, "%s: %s: expected text, got %s%s%s", location, key->name, item->text[0] ? "null" : "nothing",
             key->unset_word ? "; write " : "", key->unset_word ? key->unset_word : "");
    if (!item->text[0])
        FAIL(STATUS_USAGE, "%s: %s must not be empty", location, key->name);
    if (strlen(item->text) >= PATH_MAX)
        FAIL(STATUS_USAGE, "%s: %s: longer than %d bytes", location, key->name, PATH_MAX - 1);
    struct config_source here = { .file = location, .override = source->override };
    TRY(config_check_text(&here, item->text, strlen(item->text), false));
    *out = strdup(item->text);
    if (!*out)
        FAIL(STATUS_NOMEM, "out of memory");
fail:
    return status;
}

static enum status set_scalar(struct config *config, const struct config_key *key, const struct config_source *source,
                              const struct config_scalar *item)
{
    void *at = member(config, key->offset);
    bool unset = key->unset_word && item->plain && strcmp(item->text, key->unset_word) == 0;
    int64_t whole = (int64_t)key->unset_value;
    double real = key->unset_value;
    int choice = 0;
    char *text = NULL;
    enum status status = STATUS_OK;
    switch (key->type) {
    case CONFIG_BOOL:
        if (!item->plain || (strcmp(item->text, "true") != 0 && strcmp(item->text, "false") != 0))
            return report_wrong_type(key, source, item, "true or false");
        *(bool *)at = item->text[0] == 't';
        break;
    case CONFIG_INT:
    case CONFIG_INT64:
        if (!unset)
            TRY(read_int(key, source, item, &whole));
        if (key->type == CONFIG_INT)
            *(int *)at = (int)whole;
        else
            *(int64_t *)at = whole;
        break;
    case CONFIG_REAL:
        if (!unset)
            TRY(read_real(key, source, item, &real));
        *(double *)at = real;
        break;
    case CONFIG_CHOICE:
        TRY(read_choice(key, source, item, &choice));
        *(int *)at = choice;
        break;
    default:
        if (!unset)
            TRY(read_text(key, source, item, &text));
        *(char **)at = text;
    }
fail:
    return status;
}

static enum status set_triple(struct config *config, const struct config_key *key, const struct config_source *source,
                              const struct config_value *value)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION];
    double read[3] = { 0 };
    if (value->count != 3)
        FAIL(STATUS_USAGE, "%s: %s: expected 3 numbers, got %d",
             config_location(source, value->line, value->column, location), key->name, value->count);
    for (int i = 0; i < 3; i++)
        TRY(read_real(key, source, &value->items[i], &read[i]));
    memcpy(member(config, key->offset), read, sizeof read);
fail:
    return status;
}

static enum status set_reals(struct config *config, const struct config_key *key, const struct config_source *source,
                             const struct config_value *value)
{
    enum status status = STATUS_OK;
    double *read = value->count ? calloc((size_t)value->count, sizeof *read) : NULL;
    if (value->count && !read)
        FAIL(STATUS_NOMEM, "out of memory");
    for (int i = 0; i < value->count; i++)
        TRY(read_real(key, source, &value->items[i], &read[i]));
    *(double **)member(config, key->offset) = read;
    *(int *)member(config, key->count_offset) = value->count;
    return STATUS_OK;
fail:
    free(read);
    return status;
}

static enum status set_texts(struct config *config, const struct config_key *key, const struct config_source *source,
                             const struct config_value *value)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION], text[80];
    char **read = calloc((size_t)value->count + 1, sizeof *read); /* + 1: an empty list is not NULL */
    if (!read)
        FAIL(STATUS_NOMEM, "out of memory");
    for (int i = 0; i < value->count; i++) {
        const struct config_scalar *item = &value->items[i];
        TRY(read_text(key, source, item, &read[i]));
        for (int j = 0; j < i; j++)
            if (strcmp(read[i], read[j]) == 0)
                FAIL(STATUS_USAGE, "%s: %s: %s appears twice",
                     config_location(source, item->line, item->column, location), key->name, quote_item(item, text));
    }
    *(char ***)member(config, key->offset) = read;
    *(int *)member(config, key->count_offset) = value->count;
    return STATUS_OK;
fail:
    for (int i = 0; read && i < value->count; i++)
        free(read[i]);
    free(read);
    return status;
}

static void set_unset(struct config *config, const struct config_key *key)
{
    if (key->type == CONFIG_TRIPLE)
        for (int i = 0; i < 3; i++)
            ((double *)member(config, key->offset))[i] = key->unset_value;
    /* lists were released before, so they are NULL and 0 */
}

enum status config_set(struct config *config, int row, const struct config_source *source,
                       const struct config_value *value)
{
    enum status status = STATUS_OK;
    const struct config_key *key = &config_keys[row];
    char location[CONFIG_LOCATION];
    bool wants_list = key->type == CONFIG_TRIPLE || key->type == CONFIG_TEXTS || key->type == CONFIG_REALS;
    config_release(config, row);
    if (!wants_list && value->list)
        FAIL(STATUS_USAGE, "%s: %s: expected one value, got a list",
             config_location(source, value->line, value->column, location), key->name);
    if (!wants_list)
        return set_scalar(config, key, source, &value->items[0]);
    if (!value->list && key->unset_word && value->items[0].plain && strcmp(value->items[0].text, key->unset_word) == 0)
        set_unset(config, key);
    else if (!value->list)
        return report_wrong_type(key, source, &value->items[0], key->unset_word ? "a list or 'auto'" : "a list");
    else if (key->type == CONFIG_TRIPLE)
        return set_triple(config, key, source, value);
    else if (key->type == CONFIG_REALS)
        return set_reals(config, key, source, value);
    else
        return set_texts(config, key, source, value);
fail:
    return status;
}

enum status config_set_default(struct config *config, int row)
{
    const char *fallback = config_keys[row].default_text;
    if (!fallback)
        return STATUS_OK;
    struct config_scalar item = { .text = (char *)fallback, .plain = true };
    struct config_value value = { .items = &item, .count = 1 };
    if (strcmp(fallback, "[]") == 0)
        value = (struct config_value){ .list = true };
    struct config_source source = { .file = "default" };
    return config_set(config, row, &source, &value);
}

void config_release(struct config *config, int row)
{
    const struct config_key *key = &config_keys[row];
    void *at = member(config, key->offset);
    if (key->type == CONFIG_TEXTS) {
        char ***texts = at;
        int *count = member(config, key->count_offset);
        for (int i = 0; i < *count; i++)
            free((*texts)[i]);
        free(*texts);
        *texts = NULL;
        *count = 0;
    }
    if (key->type == CONFIG_REALS) {
        double **reals = at;
        free(*reals);
        *reals = NULL;
        *(int *)member(config, key->count_offset) = 0;
    }
    if (key->type == CONFIG_TEXT) {
        char **text = at;
        free(*text);
        *text = NULL;
    }
}
