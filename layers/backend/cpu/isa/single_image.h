/* single_image.h - fp32 convolutions of one image whose weights are far larger than it, as power iterations of deep
 * layers have: the weights are read as they are, once a call, since packing them would cost more than the convolution.
 */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_SINGLE_IMAGE_H
#define CSC_LAYERS_BACKEND_CPU_ISA_SINGLE_IMAGE_H

#include "layers/backend/backend.h"

/* Compiled once per instruction set. */
struct lone_kernels {
    bool (*fits)(const struct conv_shape *shape);
    size_t (*scratch_bytes)(const struct conv_shape *shape);
    /* image (H,W,C) -> code (H',W',D), and back by the adjoint; weights (D,k,k,C). */
    void (*forward)(const struct conv_shape *shape, const float *weights, const float *image, float *code,
                    void *scratch);
    void (*adjoint)(const struct conv_shape *shape, const float *weights, const float *code, float *image,
                    void *scratch);
};

extern const struct lone_kernels lone_base;
#if defined(__x86_64__)
extern const struct lone_kernels lone_v3, lone_v4, lone_bf16, lone_amx;
#endif

#endif
