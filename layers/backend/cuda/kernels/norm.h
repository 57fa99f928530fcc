/* norm.h - what the passes of batch norm share. Only for its kernels. */
#ifndef CSC_LAYERS_BACKEND_CUDA_KERNELS_NORM_H
#define CSC_LAYERS_BACKEND_CUDA_KERNELS_NORM_H

#include "layers/backend/cuda/kernels/kernel.h"

/* Forward and, where a ReLU shut this off, backward, which must find the same sign: so no compiler is free to leave out
 * the rounding between product and sum in one of them. */
DEVICE float normalized(float centred, float scale, float shift)
{
    return rounded_product(centred, scale) + shift;
}

/* A block's sums to its part of partials (blocks, 2, c). */
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

/* Joins partial sums: a few kilobytes. Forward: mean, inverse standard deviation, moments. Backward: gradients of
 * gamma and beta, and b, k of the next pass, dx = scale g + b (x - mean) + k. */
struct norm_reduction {
    const float *partials;
    int parts, c;
    size_t rows;
    const void *origin; /* forward: the first row of x; NULL: sums are from 0 */
    float *saved;       /* (NORM_SAVED, c): written forward, read backward */
    float *moments;     /* forward; NULL: backward */
    const float *gamma, *beta;
    float *dgamma, *dbeta;
    float *factors; /* (2, c), backward: b, k */
};

#ifdef __cplusplus
extern "C" {
#endif

void norm_reduce(const struct queue *q, const struct norm_reduction *a);

/* Queues the sums of x that norm_reduce takes, from its first row; returns their parts. */
int norm_moments(const struct queue *q, const struct norm_shape *shape, const void *x);

#ifdef __cplusplus
}
#endif

static inline float *norm_factors(const struct queue *q) /* (2, C) */
{
    return (float *)q->partials + (size_t)KERNELS_MAX_BLOCKS * 2 * 256;
}

#endif
