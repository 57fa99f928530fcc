/* progress.h - the progress of a run: a bar if standard error is a terminal, otherwise one line per interval. Rank 0
 * only. */
#ifndef CSC_TRAINER_REPORT_PROGRESS_H
#define CSC_TRAINER_REPORT_PROGRESS_H

#include <stdint.h>

#include "base/status.h"

struct progress;

/* The figures of the last interval, as in metrics.jsonl. */
struct progress_metrics {
    double loss, lr;
    double img_s;     /* of all ranks */
    double data_wait; /* fraction of time, 0..1 */
};

/* first_step is the number of optimizer steps that earlier invocations have done. Log lines clear the bar. */
enum status progress_create(struct progress **progress, int64_t first_step, int64_t total_steps,
                            int64_t steps_per_epoch);
void progress_destroy(struct progress *progress); /* clears the bar; accepts NULL */

/* Call it after every step; steps count from 1. Redraws the bar a few times a second. */
void progress_step(struct progress *progress, int64_t step);

/* Call it at the end of an interval. Shows the new figures in the bar, or logs a line. */
void progress_report(struct progress *progress, int64_t step, const struct progress_metrics *metrics);

/* Shows the progress of a phase without steps, such as "evaluating": a bar with the time left, or a log line every
 * half minute. A `done` that does not grow begins a new phase. */
void progress_phase(struct progress *progress, const char *phase, int64_t done, int64_t total);

#endif
