/* pool.h - what kernels of max pooling share. */
#ifndef CSC_LAYERS_CUDA_POOL_H
#define CSC_LAYERS_CUDA_POOL_H

#include "layers/cuda/kernel.h"

enum { PATCH = 2 }; /* backward, a thread's pixels down and across */

/* v, or the nearest of 0 .. size - 1. */
DEVICE int clamped(int v, int size)
{
    return v < 0 ? 0 : v < size ? v : size - 1;
}

/* The first window that reaches row or column v, or 0. */
DEVICE int first_window(const struct pool_shape *s, int v)
{
    int beyond = v + s->pad - s->k; /* the row before a window that starts after it ends */
    return beyond < 0 ? 0 : beyond / s->stride + 1;
}

#endif
