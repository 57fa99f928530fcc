/* winograd.h - fp32 convolutions of 3x3 and stride 1 by Winograd's F(4x4, 3x3), with a quarter of the multiplications.
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. The relative error is about 1e-6,
 * twice that of a direct sum. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_WINOGRAD_H
#define CSC_LAYERS_BACKEND_CPU_ISA_WINOGRAD_H

#include "layers/backend/backend.h"

enum winograd_use { WINOGRAD_FORWARD, WINOGRAD_ADJOINT, WINOGRAD_GRADIENT };

/* For kernels of 3x3, stride 1 and padding of at most 2. `shape` is always the convolution's, also for an adjoint.
 * `threads` is the number that OpenMP uses, the same in all calls for a convolution. */
struct winograd_kernels {
    int panel; /* C and D must be multiples of it */
    size_t (*packed_bytes)(const struct conv_shape *shape);
    size_t (*scratch_bytes)(const struct conv_shape *shape, enum winograd_use use,
                            int threads); /* of any function below */
    /* Packs weights (D,3,3,C) for WINOGRAD_FORWARD or WINOGRAD_ADJOINT. */
    void (*pack)(const struct conv_shape *shape, enum winograd_use use, const float *weights, float *packed,
                 void *scratch);
    /* out = f(alpha conv + beta add), see struct epilogue. add and mask may be out. */
    void (*run)(const struct conv_shape *shape, enum winograd_use use, const float *in, const float *packed, float *out,
                const struct epilogue *e, int threads, void *scratch);
    /* Adds the terms to dw (D,3,3,C). The bits do not depend on the number of threads. */
    void (*gradient)(const struct conv_shape *shape, const struct gradient_term *terms, int count, float *dw,
                     int threads, void *scratch);
};

extern const struct winograd_kernels winograd_base;
#if defined(__x86_64__)
extern const struct winograd_kernels winograd_v3, winograd_v4, winograd_bf16, winograd_amx;
#endif

#endif
