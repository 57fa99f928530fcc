/* log.c - writes each line by one call, so that the lines of several ranks do not mix. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/host.h"

static char program[32] = "csc";
static int rank;
static int size = 1;
static bool info_to_stderr;
static void (*before_line)(void *);
static void *before_context;
static bool results; /* see log_stdout_is_results */
static int lost;     /* errno of the first write to standard output that failed, or 0 */

/* Opens /dev/null in place of closed standard streams: otherwise the next file that is opened would take the
 * descriptor, and lines of the log would go into that file. */
static void keep_outputs(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0)
            return;
}

void log_init(const char *name, int rank_, int size_)
{
    snprintf(program, sizeof program, "%s", name);
    rank = rank_;
    size = size_;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    keep_outputs();
}

void log_set_line_hook(void (*before)(void *context), void *context)
{
    before_line = before;
    before_context = context;
}

static void prefix(char *out, size_t capacity)
{
    char host[64];
    if (size <= 1) {
        snprintf(out, capacity, "%s", program);
        return;
    }
    host_name(host, sizeof host);
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
    if ((fprintf(out, "%s\n", text) >= 0 && fflush(out) == 0) || lost || info_to_stderr)
        return;
    lost = errno;
    if (!results)
        log_warn("standard output: %s; further lines are lost", strerror(lost));
}

void log_stdout_is_results(void)
{
    results = true;
}

enum status log_finish(enum status status)
{
    if (fflush(stdout) != 0 && !lost)
        lost = errno;
    if (status == STATUS_OK && results && (lost || ferror(stdout)))
        return status_report(STATUS_IO, __FILE__, __LINE__, "standard output: %s",
                             lost ? strerror(lost) : "not all of it could be written");
    return status;
}

static void warn(const char *who, const char *format, va_list arguments)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, arguments);
    status_sanitize(text);
    step_aside();
    fprintf(stderr, "%s: warning: %s\n", who, text);
}

void log_warn(const char *format, ...)
{
    char who[160];
    va_list arguments;
    prefix(who, sizeof who);
    va_start(arguments, format);
    warn(who, format, arguments);
    va_end(arguments);
}

void log_warn_rank0(const char *format, ...)
{
    va_list arguments;
    if (rank != 0)
        return;
    va_start(arguments, format);
    warn(program, format, arguments);
    va_end(arguments);
}

void log_error_line(const char *line)
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
    if (status_code() == STATUS_USAGE) /* the message names the user's own file and line; ours would distract */
        fprintf(stderr, "%s: error: %s\n", who, status_message());
    else
        fprintf(stderr, "%s: error: %s (%s)\n", who, status_message(), status_origin());
}
