/* status.c - each thread's record of its last failure. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct status_record last;

static const char *short_path(const char *file)
{
    while (strncmp(file, "../", 3) == 0)
        file += 3;
    return file;
}

/* Returns the length of the printable character at `c` in bytes; 0 if there is none. */
static int printable(const unsigned char *c)
{
    int more = *c < 0xc2 ? 0 : *c < 0xe0 ? 1 : *c < 0xf0 ? 2 : *c < 0xf5 ? 3 : 0;
    if (!more)
        return *c >= ' ' && *c < 127;
    for (int i = 1; i <= more; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    return *c == 0xc2 && c[1] < 0xa0 ? 0 : more + 1; /* U+0080 to U+009F are control characters */
}

void status_sanitize(char *text)
{
    for (int bytes; *text; text += bytes ? bytes : 1) {
        bytes = printable((unsigned char *)text);
        if (!bytes)
            *text = '?';
    }
}

enum status status_report(enum status code, const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char message[sizeof last.message]; /* the arguments may point into the record */
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    status_sanitize(message);
    memcpy(last.message, message, sizeof message);
    snprintf(last.origin, sizeof last.origin, "%s:%d", short_path(file), line);
    last.code = code;
    return code;
}

const char *status_message(void)
{
    return last.message;
}

const char *status_origin(void)
{
    return last.origin;
}

enum status status_code(void)
{
    return last.code;
}

void status_clear(void)
{
    memset(&last, 0, sizeof last);
}

void status_save(struct status_record *record)
{
    *record = last;
}

enum status status_restore(const struct status_record *record)
{
    last = *record;
    return last.code;
}
