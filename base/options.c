/* options.c - checks that do not depend on the program. */
#include "base/options.h"

#include <ctype.h>
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
