/* eval_statistics.c - counts images, sums over ranks, and computes the statistics. */
#include "trainer/eval/eval_statistics.h"

#include <math.h>
#include <stdlib.h>

enum { IMAGES, HITS, CONFIDENCE, BIN_SUMS };

#define NORMAL_QUANTILE 1.959963984540054 /* 95% of a normal distribution are within this many standard deviations */

enum status eval_statistics_init(struct eval_statistics *t, int classes)
{
    enum status status = STATUS_OK;
    *t = (struct eval_statistics){ .classes = classes,
                                   .count = CALIBRATION_BINS * BIN_SUMS + (size_t)classes * classes };
    t->sums = calloc(t->count, sizeof *t->sums);
    if (!t->sums)
        FAIL(STATUS_NOMEM, "out of memory for a confusion matrix of %d classes", classes);
fail:
    return status;
}

void eval_statistics_finish(struct eval_statistics *t)
{
    free(t->sums);
    *t = (struct eval_statistics){ 0 };
}

double eval_to_fixed_point(double x)
{
    return nearbyint(x / EVAL_FIXED_POINT_UNIT);
}

int eval_label_rank(const float *logits, int classes, int label)
{
    int rank = 0;
    for (int k = 0; k < classes; k++)
        rank += k != label && !(logits[k] < logits[label]);
    return rank;
}

/* The softmax of the largest logit; 1/K if the logits are not finite. */
static double confidence(const float *logits, int classes)
{
    double top = logits[0], sum = 0;
    for (int k = 1; k < classes; k++)
        top = fmax(top, logits[k]);
    for (int k = 0; k < classes; k++)
        sum += exp(logits[k] - top);
    return isfinite(sum) && sum > 0 ? 1 / sum : 1.0 / classes;
}

void eval_statistics_add(struct eval_statistics *t, const float *logits, int label)
{
    bool hit = eval_label_rank(logits, t->classes, label) == 0;
    int predicted = label;
    for (int k = 0; !hit && k < t->classes; k++)
        if (k != label && (predicted == label || logits[k] > logits[predicted]))
            predicted = k;
    double p = confidence(logits, t->classes);
    int bin = (int)ceil(p * CALIBRATION_BINS) - 1;
    bin = bin < 0 ? 0 : bin >= CALIBRATION_BINS ? CALIBRATION_BINS - 1 : bin;
    t->sums[bin * BIN_SUMS + IMAGES] += 1;
    t->sums[bin * BIN_SUMS + HITS] += hit;
    t->sums[bin * BIN_SUMS + CONFIDENCE] += eval_to_fixed_point(p);
    t->sums[CALIBRATION_BINS * BIN_SUMS + (size_t)label * t->classes + predicted] += 1;
}

enum status eval_statistics_all_reduce(struct eval_statistics *t, struct comm *comm)
{
    return comm->ops->all_reduce_f64(comm, t->sums, t->count);
}

int64_t eval_statistics_confusion(const struct eval_statistics *t, int label, int predicted)
{
    return (int64_t)t->sums[CALIBRATION_BINS * BIN_SUMS + (size_t)label * t->classes + predicted];
}

int64_t eval_statistics_images(const struct eval_statistics *t, int label)
{
    int64_t sum = 0;
    for (int k = 0; k < t->classes; k++)
        sum += eval_statistics_confusion(t, label, k);
    return sum;
}

static double mean_over_bins(const struct eval_statistics *t, bool error)
{
    double images = 0, sum = 0;
    for (int b = 0; b < CALIBRATION_BINS; b++) {
        const double *bin = t->sums + b * BIN_SUMS;
        double difference = bin[CONFIDENCE] * EVAL_FIXED_POINT_UNIT - (error ? bin[HITS] : 0);
        images += bin[IMAGES];
        sum += fabs(difference);
    }
    return images > 0 ? sum / images : 0;
}

double eval_statistics_calibration_error(const struct eval_statistics *t)
{
    return mean_over_bins(t, true);
}

double eval_statistics_mean_confidence(const struct eval_statistics *t)
{
    return mean_over_bins(t, false);
}

struct confidence_interval wilson_interval(double hits, double images)
{
    if (!(images > 0))
        return (struct confidence_interval){ 0, 1 };
    double p = hits / images, z = NORMAL_QUANTILE * NORMAL_QUANTILE / images, scale = 1 / (1 + z);
    double center = (p + z / 2) * scale, half = NORMAL_QUANTILE * sqrt(p * (1 - p) / images + z / (4 * images)) * scale;
    return (struct confidence_interval){ fmax(center - half, 0), fmin(center + half, 1) };
}
