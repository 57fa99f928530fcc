/* text.c - what Windows programs put in front of UTF-8 text is no part of its first word. */
#include "data/sources/text.h"

#include <string.h>

enum status text_copy(char **copy, const char *text, size_t bytes, const char *name)
{
    enum status status = STATUS_OK;
    size_t mark = bytes >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
    *copy = NULL;
    if (memchr(text, 0, bytes))
        FAIL(STATUS_DATA, "%s: holds a 0 byte: not a text file, or not UTF-8", name);
    *copy = strndup(text + mark, bytes - mark);
    if (!*copy)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
fail:
    return status;
}
