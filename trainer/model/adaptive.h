/* adaptive.h - lambda chosen for each image, without labels and without a known level of noise. It is a line over the
 * residual R of the first CSC-layer:
 *     lambda(x) = clamp(intercept + slope R(x), low, high),   R(x) = |x - A z(x)| / sqrt(values in x)
 * where x is the normalised image and z(x) its code at the training lambda. R is a root mean square because the best
 * lambda grows with the standard deviation of noise, not with its variance. z(x) is solved with more steps than the
 * network takes: after two steps the residual is mostly amplitude that they had no time to restore, as large for a
 * bright clean image as for a noisy one; after twenty it is what the dictionary cannot code. trainer/eval/eval_fit.c
 * fits the line on training images. */
#ifndef CSC_TRAINER_MODEL_ADAPTIVE_H
#define CSC_TRAINER_MODEL_ADAPTIVE_H

#include "layers/net.h"

enum { ADAPTIVE_STEPS = 20 };

struct adaptive_rule {
    double training_lambda; /* the lambda at which R is measured */
    int steps;              /* FISTA steps for R */
    double intercept, slope, low, high;
};
double adaptive_lambda(const struct adaptive_rule *rule, double residual);

struct adaptive;

/* Prepares batches of n images. layers: (csc_count), the CSC-layers that get lambda(x); NULL: only the first.
 * `gradient` allows adaptive_backward. STATUS_USAGE unless the network's stem is a CSC-layer and the device computes in
 * fp32. */
enum status adaptive_create(struct adaptive **adaptive, struct model *model, int n, const struct adaptive_rule *rule,
                            const bool *layers, bool gradient);
void adaptive_destroy(struct adaptive *adaptive); /* NULL is fine */

/* Measures R of each image. images: host, (count,S,S,3), normalised. residuals: (count). */
enum status adaptive_residuals(struct adaptive *adaptive, const float *images, int count, double *residuals);

/* Measures the images and sets the net's lambdas for them. Call it before net_infer. */
enum status adaptive_apply(struct adaptive *adaptive, struct net *net, const float *images, int count);
/* The lambdas of the last adaptive_apply, (n). */
const float *adaptive_lambdas(const struct adaptive *adaptive);

/* After adaptive_apply: adds dlambda[i] times the gradient of lambda(x_i) to dimages, host, (count,S,S,3). The gradient
 * is 0 where lambda is clamped. */
enum status adaptive_backward(struct adaptive *adaptive, const double *dlambda, int count, float *dimages);

#endif
