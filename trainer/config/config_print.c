/* config_print.c - prints a configuration as YAML that parses to the same values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/config/config_internal.h"

static const char heading[] = "# csc-train ";

static void print_real(FILE *out, double v)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) { /* the shortest text that gives the same number */
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    fputs(text, out);
}

/* Prints a text without quotes if YAML cannot take it for anything else, and otherwise in double quotes. */
static void print_text(FILE *out, const char *text, const char *word)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
    bool plain = strspn(text, safe) == strlen(text) && text[0] != '-' && strcmp(text, "null") != 0 &&
                 strcmp(text, "...") != 0 && !(word && strcmp(text, word) == 0);
    if (plain) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (const char *s = text; *s; s++) {
        if (*s == '"' || *s == '\\')
            fputc('\\', out);
        fputc(*s, out);
    }
    fputc('"', out);
}

static void print_list(FILE *out, const struct config *config, const struct config_key *key)
{
    const char *at = (const char *)config + key->offset;
    int count = key->type == CONFIG_TRIPLE ? 3 : *(const int *)((const char *)config + key->count_offset);
    fputc('[', out);
    for (int i = 0; i < count; i++) {
        fputs(i ? ", " : "", out);
        if (key->type == CONFIG_TEXTS)
            print_text(out, (*(char *const *const *)at)[i], NULL);
        else if (key->type == CONFIG_TRIPLE)
            print_real(out, ((const double *)at)[i]);
        else
            print_real(out, (*(double *const *)at)[i]);
    }
    fputc(']', out);
}

static bool is_unset(const struct config *config, const struct config_key *key)
{
    const char *at = (const char *)config + key->offset;
    switch (key->type) {
    case CONFIG_INT: return *(const int *)at == (int)key->unset_value;
    case CONFIG_INT64: return *(const int64_t *)at == (int64_t)key->unset_value;
    case CONFIG_REAL:
    case CONFIG_TRIPLE: return *(const double *)at == key->unset_value;
    case CONFIG_TEXT: return !*(char *const *)at;
    case CONFIG_TEXTS: return !*(char *const *const *)at;
    default: return false;
    }
}

static void print_value(FILE *out, const struct config *config, const struct config_key *key)
{
    const char *at = (const char *)config + key->offset;
    if (key->unset_word && is_unset(config, key)) {
        fputs(key->unset_word, out);
        return;
    }
    switch (key->type) {
    case CONFIG_BOOL: fputs(*(const bool *)at ? "true" : "false", out); break;
    case CONFIG_INT: fprintf(out, "%d", *(const int *)at); break;
    case CONFIG_INT64: fprintf(out, "%lld", (long long)*(const int64_t *)at); break;
    case CONFIG_REAL: print_real(out, *(const double *)at); break;
    case CONFIG_CHOICE: fputs(key->choices[*(const int *)at - key->first_choice], out); break;
    case CONFIG_TEXT:
        if (*(char *const *)at)
            print_text(out, *(char *const *)at, key->unset_word);
        break;
    default: print_list(out, config, key);
    }
}

/* Prints the headings of sections that hold `name` but not `last`. Returns the depth of `name`. */
static int print_sections(FILE *out, const char *name, const char *last)
{
    int depth = 0;
    const char *start = name;
    for (const char *dot; (dot = strchr(start, '.')); start = dot + 1, depth++) {
        size_t length = (size_t)(dot - name) + 1;
        if (strncmp(name, last, length) != 0)
            fprintf(out, "%*s%.*s:\n", 2 * depth, "", (int)(dot - start), start);
    }
    return depth;
}

enum status config_print(const struct config *config, char **text)
{
    size_t bytes;
    const char *last = "";
    *text = NULL;
    FILE *out = open_memstream(text, &bytes);
    if (!out)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    fprintf(out, "%s%s: every key of the run; it can be run as it is\n", heading, CSC_VERSION);
    for (int row = 0; row < CONFIG_KEYS; row++) {
        const char *name = config_keys[row].name;
        int depth = print_sections(out, name, last);
        fprintf(out, "%*s%s: ", 2 * depth, "", strrchr(name, '.') + 1);
        print_value(out, config, &config_keys[row]);
        fputc('\n', out);
        last = name;
    }
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(*text);
        *text = NULL;
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    }
    return STATUS_OK;
}

bool config_is_printed(const char *text)
{
    return strncmp(text, heading, strlen(heading)) == 0;
}

char *config_format(const struct config *config, int row)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    print_value(out, config, &config_keys[row]);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

char *config_text(const struct config *config, const char *key)
{
    int row = config_key_find(key);
    return row < 0 ? NULL : config_format(config, row);
}
