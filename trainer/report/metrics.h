/* metrics.h - RUN/metrics.jsonl, one JSON object per line. Each line is written at once. Rank 0 only.
 *
 *     TRY(metrics_write(metrics, "step", METRIC_INT("step", 20), METRIC_NUMBER("loss", loss))); */
#ifndef CSC_TRAINER_REPORT_METRICS_H
#define CSC_TRAINER_REPORT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct metrics;

struct metric {
    const char *key;
    enum { METRIC_KIND_INT, METRIC_KIND_NUMBER, METRIC_KIND_TEXT, METRIC_KIND_BOOL, METRIC_KIND_NUMBERS } kind;
    int64_t integer;
    double number;
    const char *text;
    const double *numbers; /* `integer` values */
};

#define METRIC_INT(name, value)                                    \
    {                                                              \
        .key = (name), .kind = METRIC_KIND_INT, .integer = (value) \
    }
#define METRIC_NUMBER(name, value)                                   \
    {                                                                \
        .key = (name), .kind = METRIC_KIND_NUMBER, .number = (value) \
    } /* NaN and infinity become null */
#define METRIC_TEXT(name, value)                                 \
    {                                                            \
        .key = (name), .kind = METRIC_KIND_TEXT, .text = (value) \
    } /* NULL becomes null */
#define METRIC_BOOL(name, value)                                    \
    {                                                               \
        .key = (name), .kind = METRIC_KIND_BOOL, .integer = (value) \
    }
#define METRIC_NUMBERS(name, values, count)                                                 \
    {                                                                                       \
        .key = (name), .kind = METRIC_KIND_NUMBERS, .numbers = (values), .integer = (count) \
    }

/* Opens the file for appending and creates it if necessary. If a crash has left an incomplete last line, the line is
 * removed; if only its newline is missing, the newline is added. STATUS_IO, STATUS_DATA, STATUS_NOMEM. */
enum status metrics_open(struct metrics **metrics, const char *path);
void metrics_close(struct metrics *metrics); /* accepts NULL */

/* Writes {"event":EVENT, ...} with the metrics in order. A line that cannot be written completely is not written.
 * STATUS_IO, STATUS_NOMEM. */
enum status metrics_event(struct metrics *metrics, const char *event, const struct metric *values, int count);

#define metrics_write(metrics, event, ...)                                \
    metrics_event(metrics, event, (const struct metric[]){ __VA_ARGS__ }, \
                  (int)(sizeof((const struct metric[]){ __VA_ARGS__ }) / sizeof(struct metric)))

#endif
