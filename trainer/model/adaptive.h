/* adaptive.h - lambda chosen per image, without labels or a known level of noise: a line from the residual of the first
 * CSC-layer at the training lambda,
 *     lambda(x) = clamp(intercept + slope R(x), low, high),   R(x) = |x - A z(x)| / sqrt(values in x)
 * of the normalised image x: a root mean square, as the best lambda grows with the standard deviation of noise, not
 * with its variance. z(x) is solved with more steps than the network takes: what two steps leave behind is mostly
 * amplitude that they had no time to restore, and as large for a bright clean image as for a noisy one; what twenty
 * leave is what the dictionary cannot code. The rule is fitted on training images (trainer/eval/eval_fit.c) and then
 * frozen. */
#ifndef CSC_TRAINER_MODEL_ADAPTIVE_H
#define CSC_TRAINER_MODEL_ADAPTIVE_H

#include "layers/net.h"

enum { ADAPTIVE_STEPS = 20 };

struct adaptive_rule {
    double training_lambda; /* at which R is measured, */
    int steps;              /* with so many of FISTA */
    double intercept, slope, low, high;
};
double adaptive_lambda(const struct adaptive_rule *rule, double residual);

struct adaptive;

/* For batches of n images. layers (csc_count): which CSC-layers get lambda(x); NULL: only the first. gradient: for
 * adaptive_backward. STATUS_USAGE unless the network's stem is a CSC-layer. The device must be of fp32. */
enum status adaptive_create(struct adaptive **adaptive, struct model *model, int n, const struct adaptive_rule *rule,
                            const bool *layers, bool gradient);
void adaptive_destroy(struct adaptive *adaptive); /* NULL is fine */

/* images: host (count,S,S,3), normalised; residuals (count). */
enum status adaptive_residuals(struct adaptive *adaptive, const float *images, int count, double *residuals);

/* Measures the images and sets the net's lambdas for them; call it before net_infer. */
enum status adaptive_apply(struct adaptive *adaptive, struct net *net, const float *images, int count);
/* The lambdas of the last adaptive_apply (n). */
const float *adaptive_lambdas(const struct adaptive *adaptive);

/* After adaptive_apply: dimages (count,S,S,3) += dlambda[i] times the gradient of lambda(x_i). Where lambda is clamped
 * that is 0. */
enum status adaptive_backward(struct adaptive *adaptive, const double *dlambda, int count, float *dimages);

#endif
