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

#ifdef __cplusplus
extern "C" {
#endif

/* Reduces the sums in q->partials to saved, and adds to moments. parts: those that kernel_epilogue left; 0: the sums of
 * x are computed first. */
void norm_reduce_forward(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, float *saved, float *moments, int parts);

/* Adds to the gradients of gamma and beta, from the parts in q->partials, and leaves the factors b and k of the pass
 * that follows at norm_factors: dx = scale g + b (x - mean) + k. */
void norm_reduce_backward(const struct queue *q, const struct norm_shape *shape, const float *gamma, const float *saved,
                          float *dgamma, float *dbeta, int parts);

#ifdef __cplusplus
}
#endif

static inline float *norm_factors(const struct queue *q) /* (2, C) */
{
    return (float *)q->partials + (size_t)KERNELS_MAX_BLOCKS * 2 * 256;
}

#endif
