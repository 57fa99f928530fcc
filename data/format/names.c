/* names.c - checks names before they become paths or part of an index. */
#include "data/format/names.h"

#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "data/format/format.h"

bool shard_name_ok(const char *name)
{
    if (strlen(name) != strlen("shard-00000.csz") || strncmp(name, "shard-", 6) || strcmp(name + 11, ".csz"))
        return false;
    for (int i = 6; i < 11; i++)
        if (!isdigit((unsigned char)name[i]))
            return false;
    return true;
}

bool class_name_ok(const char *name)
{
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (*c < ' ' || *c == 127 || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)) /* the last are U+0080 to U+009F */
            return false;
    json_t *text = json_string(name); /* NULL if it is not UTF-8 */
    json_decref(text);
    return text && *name && strlen(name) <= LIMIT_NAME;
}
