/* metrics.c - writes each line with one write(2), so that a line is complete or missing unless the machine
 * crashes. */
#include "trainer/report/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINE = 1 << 20 };

struct metrics {
    int fd;
    char path[PATH_MAX];
};

static bool is_object(const char *text, size_t bytes)
{
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    bool object = json_is_object(json);
    json_decref(json);
    return object;
}

/* Leaves the file empty or ending with a newline. */
static enum status repair_last_line(struct metrics *metrics)
{
    enum status status = STATUS_OK;
    struct stat info;
    char *tail = NULL;
    if (fstat(metrics->fd, &info) != 0)
        FAIL(STATUS_IO, "%s: %s", metrics->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        FAIL(STATUS_IO, "%s: not a regular file", metrics->path);
    size_t length = info.st_size < MAX_LINE ? (size_t)info.st_size : MAX_LINE;
    off_t start = info.st_size - (off_t)length;
    tail = malloc(length + 1);
    if (!tail)
        FAIL(STATUS_NOMEM, "%s: out of memory", metrics->path);
    if (pread(metrics->fd, tail, length, start) != (ssize_t)length)
        FAIL(STATUS_IO, "%s: cannot read its last line", metrics->path);
    size_t whole = length; /* bytes of tail up to its last newline, included */
    while (whole && tail[whole - 1] != '\n')
        whole--;
    if (whole == length)
        goto fail;
    if (!whole && start)
        FAIL(STATUS_DATA, "%s: its last line is longer than %d bytes, so it is not a metrics file", metrics->path,
             MAX_LINE);
    bool ended = is_object(tail + whole, length - whole) && write(metrics->fd, "\n", 1) == 1;
    if (!ended && ftruncate(metrics->fd, start + (off_t)whole) != 0)
        FAIL(STATUS_IO, "%s: cannot remove an incomplete line: %s", metrics->path, strerror(errno));
fail:
    free(tail);
    return status;
}

enum status metrics_open(struct metrics **out, const char *path)
{
    enum status status = STATUS_OK;
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    metrics->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (metrics->fd < 0 || snprintf(metrics->path, PATH_MAX, "%s", path) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    TRY(repair_last_line(metrics));
    *out = metrics;
    return status;
fail:
    metrics_close(metrics);
    return status;
}

void metrics_close(struct metrics *metrics)
{
    if (!metrics)
        return;
    if (metrics->fd >= 0)
        close(metrics->fd);
    free(metrics);
}

/* The length of the UTF-8 character at s; 0 if it is invalid. Overlong forms are accepted; they do no harm here. */
static int utf8_length(const unsigned char *s)
{
    int length = s[0] < 0x80             ? 1
                 : (s[0] & 0xe0) == 0xc0 ? 2
                 : (s[0] & 0xf0) == 0xe0 ? 3
                 : (s[0] & 0xf8) == 0xf0 ? 4
                                         : 0;
    for (int i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* Paths may have any bytes; invalid UTF-8 becomes U+FFFD. */
static void print_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int length = utf8_length(s);
        if (!length)
            fputs("\\ufffd", out);
        else if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s < 0x20)
            fprintf(out, "\\u%04x", *s);
        else
            fwrite(s, 1, (size_t)length, out);
        s += length ? length : 1;
    }
    fputc('"', out);
}

static void print_number(FILE *out, double v)
{
    if (isfinite(v))
        fprintf(out, "%.9g", v);
    else
        fputs("null", out);
}

static void print_metric(FILE *out, const struct metric *metric)
{
    print_text(out, metric->key);
    fputc(':', out);
    switch (metric->kind) {
    case METRIC_KIND_INT: fprintf(out, "%lld", (long long)metric->integer); break;
    case METRIC_KIND_NUMBER: print_number(out, metric->number); break;
    case METRIC_KIND_BOOL: fputs(metric->integer ? "true" : "false", out); break;
    case METRIC_KIND_TEXT:
        if (metric->text)
            print_text(out, metric->text);
        else
            fputs("null", out);
        break;
    case METRIC_KIND_NUMBERS:
        fputc('[', out);
        for (int64_t i = 0; i < metric->integer; i++) {
            fputs(i ? "," : "", out);
            print_number(out, metric->numbers[i]);
        }
        fputc(']', out);
        break;
    }
}

static enum status append_line(struct metrics *metrics, const char *line, size_t bytes)
{
    enum status status = STATUS_OK;
    struct stat before;
    if (fstat(metrics->fd, &before) != 0)
        FAIL(STATUS_IO, "%s: %s", metrics->path, strerror(errno));
    ssize_t wrote;
    do
        wrote = write(metrics->fd, line, bytes);
    while (wrote < 0 && errno == EINTR);
    if (wrote == (ssize_t)bytes)
        return status;
    int error = wrote < 0 ? errno : ENOSPC;
    if (wrote > 0 && ftruncate(metrics->fd, before.st_size) != 0)
        FAIL(STATUS_IO, "%s: an incomplete line could not be removed: %s", metrics->path, strerror(errno));
    FAIL(STATUS_IO, "%s: %s", metrics->path, strerror(error));
fail:
    return status;
}

enum status metrics_event(struct metrics *metrics, const char *event, const struct metric *values, int count)
{
    enum status status = STATUS_OK;
    char *line = NULL;
    size_t bytes;
    FILE *out = open_memstream(&line, &bytes);
    if (!out)
        FAIL(STATUS_NOMEM, "%s: out of memory", metrics->path);
    fputs("{\"event\":", out);
    print_text(out, event);
    for (int i = 0; i < count; i++) {
        fputc(',', out);
        print_metric(out, &values[i]);
    }
    fputs("}\n", out);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed)
        FAIL(STATUS_NOMEM, "%s: out of memory", metrics->path);
    TRY(append_line(metrics, line, bytes));
fail:
    free(line);
    return status;
}
