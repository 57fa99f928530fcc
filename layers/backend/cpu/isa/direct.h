/* direct.h - convolutions of our own that are no transform's: what bf16.h and few_channels.h declare tables of. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_DIRECT_H
#define CSC_LAYERS_BACKEND_CPU_ISA_DIRECT_H

#include "layers/backend/backend.h"

/* Compiled once per instruction set. shape is the convolution's, whatever the use; `threads` is the number that OpenMP
 * will use, the same in all calls for a convolution. Weights (D,k,k,C) and their gradient are fp32. */
struct direct_kernels {
    bool (*fits)(const struct conv_shape *shape, enum conv_use use);
    /* Bytes of packed weights, for CONV_FORWARD or CONV_ADJOINT, and of the scratch of run or gradient. */
    size_t (*packed_bytes)(const struct conv_shape *shape, enum conv_use use);
    size_t (*scratch_bytes)(const struct conv_shape *shape, enum conv_use use, int threads);
    void (*pack)(const struct conv_shape *shape, enum conv_use use, const float *weights, void *packed);
    /* out = f(alpha conv + beta add), see struct epilogue; add and mask may be out. */
    void (*run)(const struct conv_shape *shape, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *e, int threads, void *scratch);
    /* NULL where it fits no CONV_GRADIENT. dw += the terms. The same bits for the same number of threads. */
    void (*gradient)(const struct conv_shape *shape, const struct gradient_term *terms, int count, float *dw,
                     int threads, void *scratch);
};

#endif
