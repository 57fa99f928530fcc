/* conv_algorithm.h - one way to compute convolutions on a CPU. Each kernel set lists its own in order (isa/kernels.c),
 * and conv.c takes the first that fits. */
#ifndef CSC_LAYERS_BACKEND_CPU_CONV_ALGORITHM_H
#define CSC_LAYERS_BACKEND_CPU_CONV_ALGORITHM_H

#include "layers/backend/backend.h"

/* `shape` is always the convolution's, also for an adjoint. `use` is one of CONV_FORWARD, CONV_ADJOINT, CONV_GRADIENT.
 * `threads` is the number that OpenMP uses, the same in all calls for a convolution. Weights (D,k,k,C) and their
 * gradient are fp32. */
struct conv_algorithm {
    const char *name;
    bool only_without_gradient; /* only for convolutions that are not planned for CONV_GRADIENT */
    bool (*fits)(const struct conv_shape *shape, enum conv_use use);
    size_t (*packed_bytes)(const struct conv_shape *shape, enum conv_use use); /* forward and adjoint only */
    /* Of the functions below. */
    size_t (*scratch_bytes)(const struct conv_shape *shape, enum conv_use use, int threads);
    /* Optional, with packed_bytes. NULL: run reads the weights where they lie. */
    void (*pack)(const struct conv_shape *shape, enum conv_use use, const float *weights, void *packed, void *scratch);
    /* out = f(alpha conv + beta add), see struct epilogue. add and mask may be out. */
    void (*run)(const struct conv_shape *shape, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *e, int threads, void *scratch);
    /* Optional. Adds the terms to dw (D,k,k,C). NULL: fits is false for CONV_GRADIENT. */
    void (*gradient)(const struct conv_shape *shape, const struct gradient_term *terms, int count, float *dw,
                     int threads, void *scratch);
};

/* f(v) = v, without add. */
static inline bool epilogue_is_identity(const struct epilogue *e)
{
    return e->kind == EPILOGUE_LINEAR && e->alpha == 1 && !e->add;
}

/* Whether `out` can hold an fp32 result until the epilogue, which reads add and mask, turns it into the output. */
static inline bool epilogue_can_wait(const struct epilogue *e, const void *out)
{
    return e->add != out && e->mask != out;
}

#endif
