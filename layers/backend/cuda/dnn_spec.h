/* dnn_spec.h - which convolution is to be computed, with which epilogue fused to it, and on which memory. Both cuDNN's
 * graphs (dnn.h) and cuBLASLt's products (gemm.h) are made from a spec.
 * Tensors are NHWC. A^T is cuDNN's forward convolution, A its backward-data, the weight gradient its backward-filter.
 */
#ifndef CSC_LAYERS_BACKEND_CUDA_DNN_SPEC_H
#define CSC_LAYERS_BACKEND_CUDA_DNN_SPEC_H

#include "layers/backend/backend.h"

enum dnn_kind { DNN_FORWARD, DNN_ADJOINT, DNN_GRADIENT };

/* The epilogues that can be fused to a convolution. c is its result in fp32; alpha, nu and threshold are scalars in
 * device memory:
 *     PLAIN       c
 *     SCALE       alpha c
 *     ADD         alpha c + add
 *     SUBTRACT    alpha c - add
 *     SHRINK      max(nu alpha c - threshold, 0)
 *     SHRINK_ADD  max(nu (alpha c + add) - threshold, 0)
 *     MASK_ADD    nu (alpha c + add) where mask != 0, else 0
 * `add` may be the result itself: each of its elements is read just before it is written. */
enum dnn_epilogue {
    DNN_PLAIN,
    DNN_SCALE,
    DNN_ADD,
    DNN_SUBTRACT,
    DNN_SHRINK,
    DNN_SHRINK_ADD,
    DNN_MASK_ADD,
    DNN_NOT_FUSED /* in no spec: the epilogue is a pass of its own */
};

struct dnn_spec {
    enum dnn_kind kind;
    enum dnn_epilogue epilogue;
    struct conv_shape shape;
    enum precision precision;
    bool float_result; /* with bf16, of a gradient or a plain convolution: the result is stored in fp32 */
    bool k_by_1;       /* the kernel is k x 1 and codes are as wide as the image; stride 1, no padding */
};
static inline int dnn_code_w(const struct dnn_spec *spec)
{
    return spec->k_by_1 ? spec->shape.w : conv_out_w(&spec->shape);
}
static inline size_t dnn_code_count(const struct dnn_spec *spec)
{
    return (size_t)spec->shape.n * conv_out_h(&spec->shape) * dnn_code_w(spec) * spec->shape.d;
}
static inline size_t dnn_weight_count(const struct dnn_spec *spec)
{
    return conv_weight_count(&spec->shape) / (spec->k_by_1 ? spec->shape.k : 1);
}
/* Multiplications and additions of the convolution, each counted as one. */
static inline double dnn_flops(const struct dnn_spec *spec)
{
    return 2.0 * (double)dnn_code_count(spec) * (double)(dnn_weight_count(spec) / spec->shape.d);
}
/* Names the spec and cuDNN's version, such as "cudnn.91900.forward.shrink.8x32x32x64.64.3.1.1.bf16". */
enum { DNN_SPEC_KEY = 128 };
void dnn_spec_key(const struct dnn_spec *spec, char key[DNN_SPEC_KEY]);

/* Device memory of one call. The result is one of image, code and weights. What the spec does not use may be NULL. */
struct dnn_operands {
    const void *image, *code, *weights;
    const void *add, *mask;
    const float *scalars; /* alpha, nu, threshold */
};

#endif
