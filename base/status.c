/* status.c - one record of the last failure per thread. */
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

enum status status_report(enum status code, const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char message[sizeof last.message]; /* an argument may point into the record */
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
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
