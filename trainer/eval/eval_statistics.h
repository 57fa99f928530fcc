/* eval_statistics.h - statistics of an evaluation: confusion matrix, calibration, confidence intervals. All sums are
 * sums of integers (probabilities in units of 2^-24), so they are exact and the same for any number of ranks. */
#ifndef CSC_TRAINER_EVAL_EVAL_STATISTICS_H
#define CSC_TRAINER_EVAL_EVAL_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"

enum { CALIBRATION_BINS = 15 }; /* bins of equal width for the expected calibration error (Guo et al., ICML 2017) */
#define EVAL_FIXED_POINT_UNIT 0x1p-24

struct eval_statistics {
    int classes;
    size_t count;
    double *sums; /* (count): images, hits, confidence of each bin; then the confusion matrix [label][predicted] */
};

enum status eval_statistics_init(struct eval_statistics *statistics, int classes);
void eval_statistics_finish(struct eval_statistics *statistics); /* accepts zeros */

/* The number of classes with a logit at least as large as the label's; 0 if the prediction is right. Ties count
 * against the label, so a constant network is never right. */
int eval_label_rank(const float *logits, int classes, int label);
/* Adds one image. A tie counts as a confusion with the other class. */
void eval_statistics_add(struct eval_statistics *statistics, const float *logits, int label);
/* Sums over all ranks. Collective. */
enum status eval_statistics_all_reduce(struct eval_statistics *statistics, struct comm *comm);

int64_t eval_statistics_confusion(const struct eval_statistics *statistics, int label, int predicted);
int64_t eval_statistics_images(const struct eval_statistics *statistics, int label); /* images of this class */
/* The mean of |accuracy - confidence| over the bins, weighted by images. */
double eval_statistics_calibration_error(const struct eval_statistics *statistics);
double eval_statistics_mean_confidence(const struct eval_statistics *statistics); /* over all images */

/* The 95% confidence interval of hits / images (Wilson, JASA 1927). */
struct confidence_interval {
    double low, high;
};
struct confidence_interval wilson_interval(double hits, double images);

/* x as a whole number of EVAL_FIXED_POINT_UNIT. */
double eval_to_fixed_point(double x);

#endif
