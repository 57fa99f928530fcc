/* options.c - checks that do not depend on the program. */
#include "base/options.h"

#include <ctype.h>
#include <errno.h>
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

enum status options_integer(const char *name, const char *text, int64_t low, int64_t high, int64_t *value)
{
    enum status status = STATUS_OK;
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || *value < low || *value > high)
        FAIL(STATUS_USAGE, "--%s %s: must be an integer between %lld and %lld", name, text, (long long)low,
             (long long)high);
fail:
    return status;
}

enum status options_number(const char *name, const char *text, double low, double high, double *value)
{
    enum status status = STATUS_OK;
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (errno || end == text || *end || !(*value >= low && *value <= high))
        FAIL(STATUS_USAGE, "--%s %s: must be a number between %g and %g", name, text, low, high);
fail:
    return status;
}
