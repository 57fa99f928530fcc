/* eval_statistics.c - counts per image, sums over ranks, and what follows from them. */
#include "trainer/eval/eval_statistics.h"

#include <math.h>
#include <stdlib.h>

enum { IMAGES, HITS, CONFIDENCE, PER_BIN };

#define DEVIATIONS 1.959963984540054 /* of a normal distribution: 95% lie within */

enum status tally_init(struct tally *t, int classes)
{
    enum status status = STATUS_OK;
    *t = (struct tally){ .classes = classes, .count = TALLY_BINS * PER_BIN + (size_t)classes * classes };
    t->sums = calloc(t->count, sizeof *t->sums);
    if (!t->sums)
        FAIL(STATUS_NOMEM, "out of memory for a confusion matrix of %d classes", classes);
fail:
    return status;
}

void tally_finish(struct tally *t)
{
    free(t->sums);
    *t = (struct tally){ 0 };
}

double tally_quantum(double x)
{
    return nearbyint(x / TALLY_UNIT);
}

int tally_rank(const float *logits, int classes, int label)
{
    int rank = 0;
    for (int k = 0; k < classes; k++)
        rank += k != label && !(logits[k] < logits[label]);
    return rank;
}

/* The softmax of the largest logit; 1/K where logits are not finite. */
static double confidence(const float *logits, int classes)
{
    double top = logits[0], sum = 0;
    for (int k = 1; k < classes; k++)
        top = fmax(top, logits[k]);
    for (int k = 0; k < classes; k++)
        sum += exp(logits[k] - top);
    return isfinite(sum) && sum > 0 ? 1 / sum : 1.0 / classes;
}

void tally_add(struct tally *t, const float *logits, int label)
{
    bool hit = tally_rank(logits, t->classes, label) == 0;
    int predicted = label;
    for (int k = 0; !hit && k < t->classes; k++)
        if (k != label && (predicted == label || logits[k] > logits[predicted]))
            predicted = k;
    double p = confidence(logits, t->classes);
    int bin = (int)ceil(p * TALLY_BINS) - 1;
    bin = bin < 0 ? 0 : bin >= TALLY_BINS ? TALLY_BINS - 1 : bin;
    t->sums[bin * PER_BIN + IMAGES] += 1;
    t->sums[bin * PER_BIN + HITS] += hit;
    t->sums[bin * PER_BIN + CONFIDENCE] += tally_quantum(p);
    t->sums[TALLY_BINS * PER_BIN + (size_t)label * t->classes + predicted] += 1;
}

enum status tally_sum(struct tally *t, struct comm *comm)
{
    return comm->ops->all_reduce_f64(comm, t->sums, t->count, true);
}

int64_t tally_confusion(const struct tally *t, int label, int predicted)
{
    return (int64_t)t->sums[TALLY_BINS * PER_BIN + (size_t)label * t->classes + predicted];
}

int64_t tally_images(const struct tally *t, int label)
{
    int64_t sum = 0;
    for (int k = 0; k < t->classes; k++)
        sum += tally_confusion(t, label, k);
    return sum;
}

static double over_bins(const struct tally *t, bool error)
{
    double images = 0, sum = 0;
    for (int b = 0; b < TALLY_BINS; b++) {
        const double *bin = t->sums + b * PER_BIN;
        double difference = bin[CONFIDENCE] * TALLY_UNIT - (error ? bin[HITS] : 0);
        images += bin[IMAGES];
        sum += fabs(difference);
    }
    return images > 0 ? sum / images : 0;
}

double tally_calibration_error(const struct tally *t)
{
    return over_bins(t, true);
}

double tally_confidence(const struct tally *t)
{
    return over_bins(t, false);
}

struct share_interval tally_interval(double hits, double images)
{
    if (!(images > 0))
        return (struct share_interval){ 0, 1 };
    double p = hits / images, z = DEVIATIONS * DEVIATIONS / images, scale = 1 / (1 + z);
    double center = (p + z / 2) * scale, half = DEVIATIONS * sqrt(p * (1 - p) / images + z / (4 * images)) * scale;
    return (struct share_interval){ fmax(center - half, 0), fmin(center + half, 1) };
}
