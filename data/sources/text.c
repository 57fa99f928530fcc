/* text.c - copies text without the byte order mark that Windows programs put before UTF-8. */
#include "data/sources/text.h"

#include <string.h>

enum status text_copy(char **copy, const char *text, size_t bytes, const char *name)
{
    enum status status = STATUS_OK;
    size_t mark = bytes >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
    *copy = NULL;
    if (memchr(text, 0, bytes))
        FAIL(STATUS_DATA, "%s: contains a 0 byte: not a text file, or not UTF-8", name);
    *copy = strndup(text + mark, bytes - mark);
    if (!*copy)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
fail:
    return status;
}
