/* curves.h - reads the training curves from a run's metrics.jsonl, and draws them as SVG charts. */
#ifndef CSC_TRAINER_REPORT_CURVES_H
#define CSC_TRAINER_REPORT_CURVES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

/* Values over optimizer steps, in ascending order of the steps. */
struct series {
    double *steps, *values;
    int count;
    size_t capacity;
};

struct curves {
    struct series loss, eval_loss, top1, lr, img_s;
};

/* Reads metrics.jsonl, from a file or from text; name is for errors. Steps that a resume has discarded and an
 * incomplete last line are left out. STATUS_DATA names any other bad line; STATUS_IO, STATUS_NOMEM. On failure *curves
 * is finished. */
enum status curves_read(struct curves *curves, const char *path);
enum status curves_parse(struct curves *curves, const char *name, const char *text, size_t bytes);
void curves_finish(struct curves *curves); /* accepts zeros */

struct curve {
    const char *name, *colour; /* in CSS */
    const struct series *series;
};

/* Writes one chart of several series as an <svg> element. Series without values are left out. title is plain text. */
void curves_draw(FILE *out, const char *title, const struct curve *lines, int count);

#endif
