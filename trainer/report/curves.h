/* curves.h - what a run's metrics.jsonl tells, as charts (SVG). */
#ifndef CSC_TRAINER_REPORT_CURVES_H
#define CSC_TRAINER_REPORT_CURVES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

/* Values over optimizer steps, in the order of the steps. */
struct series {
    double *steps, *values;
    int count, capacity;
};

struct curves {
    struct series loss, eval_loss, top1, lr, img_s;
};

/* Steps that a resume has given up are left out, and so is a torn last line. STATUS_DATA names any other bad line;
 * STATUS_IO. On failure *curves is finished. */
enum status curves_read(struct curves *curves, const char *path);
enum status curves_parse(struct curves *curves, const char *name, const char *text, size_t bytes);
void curves_finish(struct curves *curves); /* zeros are fine */

struct curve {
    const char *name, *colour; /* as in CSS */
    const struct series *series;
};

/* One chart of several series as an <svg> element; those without values are left out. title is plain text. */
void curves_draw(FILE *out, const char *title, const struct curve *lines, int count);

#endif
