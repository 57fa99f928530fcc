/* log.c - rank-prefixed lines, each written by one call so that ranks do not interleave. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/status.h"

static char program[32] = "csc";
static int rank;
static int size = 1;
static bool info_to_stderr;
static void (*before_line)(void *);
static void *before_context;

void log_init(const char *name, int rank_, int size_)
{
    snprintf(program, sizeof program, "%s", name);
    rank = rank_;
    size = size_;
}

void log_on_line(void (*before)(void *context), void *context)
{
    before_line = before;
    before_context = context;
}

static void prefix(char *out, size_t capacity)
{
    char host[64] = "unknown host";
    if (size <= 1) {
        snprintf(out, capacity, "%s", program);
        return;
    }
    gethostname(host, sizeof host - 1);
    snprintf(out, capacity, "%s: rank %d on %s", program, rank, host);
}

static void step_aside(void)
{
    if (before_line)
        before_line(before_context);
}

void log_info_to_stderr(void)
{
    info_to_stderr = true;
}

void log_info(const char *format, ...)
{
    if (rank != 0)
        return;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    step_aside();
    FILE *out = info_to_stderr ? stderr : stdout;
    fprintf(out, "%s\n", text);
    fflush(out);
}

void log_warn(const char *format, ...)
{
    char text[2048], who[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    prefix(who, sizeof who);
    step_aside();
    fprintf(stderr, "%s: warning: %s\n", who, text);
}

void log_alarm(const char *line)
{
    char who[160];
    prefix(who, sizeof who);
    fprintf(stderr, "%s: error: %s\n", who, line);
}

void log_failure(void)
{
    char who[160];
    prefix(who, sizeof who);
    step_aside();
    fflush(stdout);
    if (status_code() == STATUS_USAGE) /* the reader's own file or line; ours would only distract */
        fprintf(stderr, "%s: error: %s\n", who, status_message());
    else
        fprintf(stderr, "%s: error: %s (%s)\n", who, status_message(), status_origin());
}
