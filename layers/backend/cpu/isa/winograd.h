/* winograd.h - fp32 convolutions of 3x3 and stride 1 by Winograd's F(4x4, 3x3): a quarter of the multiplications.
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. Results are off by some
 * 1e-6 of their size, twice a direct sum's rounding. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_WINOGRAD_H
#define CSC_LAYERS_BACKEND_CPU_ISA_WINOGRAD_H

#include "layers/backend/backend.h"

enum winograd_use { WINOGRAD_FORWARD, WINOGRAD_ADJOINT, WINOGRAD_GRADIENT };

/* Compiled once per instruction set. shape is the convolution's; an adjoint is one with C and D exchanged. `threads` is
 * the number that OpenMP will use, the same in all calls for a convolution. */
struct winograd_kernels {
    int panel; /* C and D have to be multiples of it */
    /* Bytes of packed weights, and of the scratch of pack and run, or of gradient. */
    size_t (*packed_bytes)(const struct conv_shape *shape);
    size_t (*scratch_bytes)(const struct conv_shape *shape, enum winograd_use use, int threads);
    /* Weights (D,3,3,C) for WINOGRAD_FORWARD or WINOGRAD_ADJOINT. */
    void (*pack)(const struct conv_shape *shape, enum winograd_use use, const float *weights, float *packed,
                 void *scratch);
    /* out = f(alpha conv + beta add), see struct epilogue; add and mask may be out. */
    void (*run)(const struct conv_shape *shape, enum winograd_use use, const float *in, const float *packed, float *out,
                const struct epilogue *e, int threads, void *scratch);
    /* dw (D,3,3,C) += the terms, summed before they are transformed back. The same bits for any number of threads. */
    void (*gradient)(const struct conv_shape *shape, const struct gradient_term *terms, int count, float *dw,
                     int threads, void *scratch);
};

extern const struct winograd_kernels winograd_base;
#if defined(__x86_64__)
extern const struct winograd_kernels winograd_v3, winograd_v4, winograd_bf16, winograd_amx;
#endif

#endif
