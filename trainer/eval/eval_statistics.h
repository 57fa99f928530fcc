/* eval_statistics.h - what an evaluation counts: confusion matrix, calibration, confidence intervals.
 * All sums are of whole numbers (probabilities in units of 2^-24), so they are exact and the same for any number of
 * ranks. */
#ifndef CSC_TRAINER_EVAL_EVAL_STATISTICS_H
#define CSC_TRAINER_EVAL_EVAL_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"

enum {
    CALIBRATION_BINS = 15
}; /* of equal width in confidence, for the expected calibration error (Guo et al., ICML 2017) */
#define EVAL_FIXED_POINT_UNIT 0x1p-24

struct eval_statistics {
    int classes;
    size_t count;
    double *sums; /* (count): bins of images, hits, confidence; then the confusion matrix (K,K), [label][predicted] */
};

enum status eval_statistics_init(struct eval_statistics *statistics, int classes);
void eval_statistics_finish(struct eval_statistics *statistics); /* zeros are fine */

/* How many classes score at least as high as the label; ties count against it, so a constant net is not right. */
int eval_label_rank(const float *logits, int classes, int label);
/* One image. A tie is counted as a confusion with the other class. */
void eval_statistics_add(struct eval_statistics *statistics, const float *logits, int label);
/* Collective. */
enum status eval_statistics_all_reduce(struct eval_statistics *statistics, struct comm *comm);

int64_t eval_statistics_confusion(const struct eval_statistics *statistics, int label, int predicted);
int64_t eval_statistics_images(const struct eval_statistics *statistics, int label); /* of one class */
double eval_statistics_calibration_error(
    const struct eval_statistics *statistics); /* mean |accuracy - confidence| over the bins, by images */
double eval_statistics_mean_confidence(const struct eval_statistics *statistics); /* mean */

/* A share of `hits` in `images` with its 95% interval (Wilson, JASA 1927). */
struct confidence_interval {
    double low, high;
};
struct confidence_interval wilson_interval(double hits, double images);

/* x in whole multiples of EVAL_FIXED_POINT_UNIT. */
double eval_to_fixed_point(double x);

#endif
