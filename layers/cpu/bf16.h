/* bf16.h - convolutions of bf16 activations, summed in fp32, on processors that multiply bf16: any kernel, stride,
 * padding and size. Each pixel's sum starts and ends in registers; the epilogue follows before it is stored. */
#ifndef CSC_LAYERS_CPU_BF16_H
#define CSC_LAYERS_CPU_BF16_H

#include "layers/backend.h"

/* Compiled once per instruction set. shape is the convolution's, whatever the use; `threads` is the number that OpenMP
 * will use, the same in all calls for a convolution. Activations are bf16, weights and their gradient fp32. */
struct bf16_kernels {
    /* Bytes of packed weights, for CONV_FORWARD or CONV_ADJOINT, and of the scratch of run or gradient. */
    size_t (*packed_bytes)(const struct conv_shape *shape, enum conv_use use);
    size_t (*scratch_bytes)(const struct conv_shape *shape, enum conv_use use, int threads);
    void (*pack)(const struct conv_shape *shape, enum conv_use use, const float *weights, void *packed);
    /* out = f(alpha conv + beta add), see struct epilogue; add and mask may be out. */
    void (*run)(const struct conv_shape *shape, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *e, int threads, void *scratch);
    /* dw (D,k,k,C) += the terms. The same bits for the same number of threads. */
    void (*gradient)(const struct conv_shape *shape, const struct gradient_term *terms, int count, float *dw,
                     int threads, void *scratch);
};

extern const struct bf16_kernels bf16_bf16, bf16_amx; /* AVX-512's bf16, AMX */

#endif
