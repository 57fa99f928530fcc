/* norm.h - shared by the kernels of batch norm; for them only. */
#ifndef CSC_LAYERS_BACKEND_CUDA_KERNELS_NORM_H
#define CSC_LAYERS_BACKEND_CUDA_KERNELS_NORM_H

#include "layers/backend/cuda/kernels/kernel.h"

/* Forward, and backward to find where the ReLU was active. Both must get the same sign, so the product is always
 * rounded before the sum. */
DEVICE float normalized(float centred, float scale, float shift)
{
    return rounded_product(centred, scale) + shift;
}

/* Stores the block's sums as its part of partials (blocks, 2, c). */
DEVICE void store_partial_sums(const struct columns *s, int c, int width, float *sum, float *product, float *partials,
                               float *shared)
{
    column_sum(s, width, sum, shared);
    column_sum(s, width, product, shared);
    for (int k = 0; k < width && c < s->c && threadIdx.x < (unsigned)s->across; k++) {
        float *to = partials + (size_t)blockIdx.x * 2 * s->c + c + k;
        to[0] = sum[k];
        to[s->c] = product[k];
    }
}

/* Reduces partial sums, a few kilobytes. Forward: to mean, inverse standard deviation and moments. Backward: to the
 * gradients of gamma and beta, and to b and k of the pass that follows, dx = scale g + b (x - mean) + k. */
struct norm_reduction {
    const float *partials;
    int parts, c;
    size_t rows;
    const void
        *origin;    /* forward: the sums are of x minus the first row of x, which is here; NULL: they are of x itself */
    float *saved;   /* (NORM_SAVED, c), written forward, read backward */
    float *moments; /* forward only; NULL: this is backward */
    const float *gamma, *beta;
    float *dgamma, *dbeta;
    float *factors; /* (2, c): b and k, backward only */
};

#ifdef __cplusplus
extern "C" {
#endif

void norm_reduce(const struct queue *q, const struct norm_reduction *a);

/* Queues the sums of x minus its first row that norm_reduce takes; returns the number of their parts. */
int norm_moments(const struct queue *q, const struct norm_shape *shape, const void *x);

#ifdef __cplusplus
}
#endif

static inline float *norm_factors(const struct queue *q) /* (2, C) */
{
    return (float *)q->partials + (size_t)KERNELS_MAX_BLOCKS * 2 * 256;
}

#endif
