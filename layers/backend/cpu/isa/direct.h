/* direct.h - the table of a direct convolution, one that multiplies without a transform. bf16.h and few_channels.h
 * declare such tables. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_DIRECT_H
#define CSC_LAYERS_BACKEND_CPU_ISA_DIRECT_H

#include "layers/backend/backend.h"

/* `shape` is always the convolution's, also for an adjoint. `use` is one of CONV_FORWARD, CONV_ADJOINT, CONV_GRADIENT.
 * `threads` is the number that OpenMP uses, the same in all calls for a convolution. Weights (D,k,k,C) and their
 * gradient are fp32. */
struct direct_kernels {
    bool (*fits)(const struct conv_shape *shape, enum conv_use use);
    size_t (*packed_bytes)(const struct conv_shape *shape, enum conv_use use); /* forward and adjoint only */
    size_t (*scratch_bytes)(const struct conv_shape *shape, enum conv_use use, int threads); /* of run and gradient */
    void (*pack)(const struct conv_shape *shape, enum conv_use use, const float *weights, void *packed);
    /* out = f(alpha conv + beta add), see struct epilogue. add and mask may be out. */
    void (*run)(const struct conv_shape *shape, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *e, int threads, void *scratch);
    /* Optional. Adds the terms to dw (D,k,k,C). The bits depend on the number of threads. NULL: fits is false for
     * CONV_GRADIENT. */
    void (*gradient)(const struct conv_shape *shape, const struct gradient_term *terms, int count, float *dw,
                     int threads, void *scratch);
};

#endif
