/* eval_statistics.h - what an evaluation counts: confusion matrix, calibration, confidence intervals.
 * All sums are of whole numbers (probabilities in units of 2^-24), so they are exact and the same for any number of
 * ranks. */
#ifndef CSC_TRAINER_EVAL_EVAL_STATISTICS_H
#define CSC_TRAINER_EVAL_EVAL_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"

enum { TALLY_BINS = 15 }; /* of equal width in confidence, for the expected calibration error (Guo et al., ICML 2017) */
#define TALLY_UNIT 0x1p-24

struct tally {
    int classes;
    size_t count;
    double *sums; /* (count): bins of images, hits, confidence; then the confusion matrix (K,K), [label][predicted] */
};

enum status tally_init(struct tally *tally, int classes);
void tally_finish(struct tally *tally); /* zeros are fine */

/* How many classes score at least as high as the label; ties count against it, so a constant net is not right. */
int tally_rank(const float *logits, int classes, int label);
/* One image. A tie is counted as a confusion with the other class. */
void tally_add(struct tally *tally, const float *logits, int label);
/* Collective. */
enum status tally_sum(struct tally *tally, struct comm *comm);

int64_t tally_confusion(const struct tally *tally, int label, int predicted);
int64_t tally_images(const struct tally *tally, int label); /* of one class */
double tally_calibration_error(const struct tally *tally);  /* mean |accuracy - confidence| over the bins, by images */
double tally_confidence(const struct tally *tally);         /* mean */

/* A share of `hits` in `images` with its 95% interval (Wilson, JASA 1927). */
struct share_interval {
    double low, high;
};
struct share_interval tally_interval(double hits, double images);

/* x in whole multiples of TALLY_UNIT. */
double tally_quantum(double x);

#endif
