/* progress.h - how far a run is: a bar where standard error is a terminal, else one plain line per interval. */
#ifndef CSC_TRAINER_REPORT_PROGRESS_H
#define CSC_TRAINER_REPORT_PROGRESS_H

#include <stdint.h>

#include "base/status.h"

struct progress;

/* The numbers of the last interval, as in metrics.jsonl. */
struct progress_metrics {
    double loss, lr;
    double img_s;     /* all ranks */
    double data_wait; /* share of time, 0..1 */
};

/* first_step: optimizer steps done before this invocation. Rank 0 only. Log lines make the bar step aside. */
enum status progress_create(struct progress **progress, int64_t first_step, int64_t total_steps,
                            int64_t steps_per_epoch);
void progress_destroy(struct progress *progress); /* clears the bar; NULL is fine */

/* After every step (step counts from 1): redraws the bar a few times a second. */
void progress_step(struct progress *progress, int64_t step);

/* At the end of an interval: the bar's new numbers, or a line. */
void progress_report(struct progress *progress, int64_t step, const struct progress_metrics *numbers);

/* During a phase without steps ("evaluating", done of total): the bar says so, with the time left; in a batch log a
 * line every half minute. A smaller `done` than before begins another phase. */
void progress_phase(struct progress *progress, const char *phase, int64_t done, int64_t total);

#endif
