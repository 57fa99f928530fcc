/* single_image.h - fp32 convolutions of one image that is far smaller than its weights, as power iterations of deep
 * layers have. The weights are read unpacked, once a call: packing them would cost more than the convolution. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_SINGLE_IMAGE_H
#define CSC_LAYERS_BACKEND_CPU_ISA_SINGLE_IMAGE_H

#include "layers/backend/backend.h"

struct single_image_kernels {
    bool (*fits)(const struct conv_shape *shape);
    size_t (*scratch_bytes)(const struct conv_shape *shape);
    /* image (H,W,C) to code (H',W',D) and back; weights (D,k,k,C). Without an epilogue. */
    void (*forward)(const struct conv_shape *shape, const float *weights, const float *image, float *code,
                    void *scratch);
    void (*adjoint)(const struct conv_shape *shape, const float *weights, const float *code, float *image,
                    void *scratch);
};

extern const struct single_image_kernels single_image_base;
#if defined(__x86_64__)
extern const struct single_image_kernels single_image_v3, single_image_v4, single_image_bf16, single_image_amx;
#endif

#endif
