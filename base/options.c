/* options.c - checks that do not depend on the program, and a table of options for getopt_long. */
#include "base/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool options_unexpanded(const char *path)
{
    if (path[0] == '~')
        return true;
    for (const char *s = strchr(path, '$'); s; s = strchr(s + 1, '$'))
        if (isalpha((unsigned char)s[1]) || s[1] == '_' || s[1] == '{')
            return true;
    return false;
}

enum status options_check(char *const *argv)
{
    enum status status = STATUS_OK;
    unsetenv("POSIXLY_CORRECT");
    for (int i = 1; argv[i]; i++) {
        const char *equals = strncmp(argv[i], "--", 2) == 0 ? strchr(argv[i], '=') : NULL;
        const char *value = equals ? equals + 1 : argv[i];
        bool checked = equals || (argv[i][0] != '-' && !strchr(argv[i], '=')); /* the configuration checks key=value */
        if (checked && options_unexpanded(value))
            FAIL(STATUS_USAGE, "%s: no shell has expanded the ~ or $ in it; write the whole path%s", argv[i],
                 equals ? ", or put a space in place of =" : "");
    }
fail:
    return status;
}

enum status options_integer(const char *name, const char *text, double low, double high, int64_t *value)
{
    enum status status = STATUS_OK;
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || !(*value >= low && *value <= high))
        FAIL(STATUS_USAGE, "--%s %s: must be an integer between %.15g and %.15g", name, text, low, high);
fail:
    return status;
}

static enum status parse_number(const struct option_row *row, const char *text)
{
    enum status status = STATUS_OK;
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno || end == text || *end || !(value >= row->low && value <= row->high))
        FAIL(STATUS_USAGE, "--%s %s: must be a number between %.15g and %.15g", row->name, text, row->low, row->high);
    *row->number = row->unit ? value * row->unit : value;
fail:
    return status;
}

enum status options_choice(const char *name, const char *text, const char *const *names, int *value)
{
    enum status status = STATUS_OK;
    char all[256] = "";
    int i = 0;
    for (; names[i] && strcmp(text, names[i]) != 0; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", !i ? "" : names[i + 1] ? ", " : " or ", names[i]);
    if (!names[i])
        FAIL(STATUS_USAGE, "--%s %s: must be %s", name, text, all);
    *value = i;
fail:
    return status;
}

static enum status set_option(const struct option_row *row, void *context, const char *text)
{
    enum status status = STATUS_OK;
    int64_t value = 0;
    if (row->on)
        *row->on = true;
    if (row->text)
        *row->text = text;
    if (row->integer || row->integer64)
        TRY(options_integer(row->name, text, row->low, row->high, &value));
    if (row->integer)
        *row->integer = (int)value;
    if (row->integer64)
        *row->integer64 = value;
    if (row->number)
        TRY(parse_number(row, text));
    if (row->choice)
        TRY(options_choice(row->name, text, row->names, row->choice));
    if (row->setting)
        snprintf(row->setting, OPTION_SETTING_BYTES, "%s=%s", row->key, text);
    if (row->parse)
        TRY(row->parse(context, text));
fail:
    return status;
}

/* Whether a line of the help text begins with the option. */
static bool is_listed(const char *help, const char *name)
{
    static const char start[] = "\n  --";
    size_t length = strlen(name);
    for (const char *at = help; (at = strstr(at, start)); at++) {
        const char *found = at + sizeof start - 1;
        if (strncmp(found, name, length) == 0 && !isalnum((unsigned char)found[length]) && found[length] != '-')
            return true;
    }
    return false;
}

enum status options_parse(const struct option_row *rows, void *context, int argc, char **argv, const char *command,
                          const char *help, int *operands, bool *done)
{
    enum { MAX_OPTIONS = 40, HELP = 256, VERSION, FIRST };
    enum status status = STATUS_OK;
    struct option list[MAX_OPTIONS + 3] = { { "help", no_argument, NULL, HELP },
                                            { "version", no_argument, NULL, VERSION } };
    int count = done ? 2 : 0, found;
    for (int i = 0; rows[i].name; i++)
        if (is_listed(help, rows[i].name)) {
            assert(i < MAX_OPTIONS);
            list[count++] = (struct option){ rows[i].name, rows[i].on ? no_argument : required_argument, NULL,
                                             FIRST + i };
        }
    list[count] = (struct option){ 0 };
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":", list, NULL)) != -1) {
        if (found == ':')
            FAIL(STATUS_USAGE, "%s needs a value; see %s --help", argv[optind - 1], command);
        if (found == '?')
            FAIL(STATUS_USAGE, "%s has no option %s; see %s --help", command, argv[optind - 1], command);
        if (found < FIRST) {
            *done = true;
            printf("%s%s", found == HELP ? help : command, found == HELP ? "" : " " CSC_VERSION "\n");
            return STATUS_OK;
        }
        TRY(set_option(&rows[found - FIRST], context, optarg));
    }
    *operands = optind;
fail:
    return status;
}
