/* dnn.h - one convolution and what follows it as a cuDNN graph. cuDNN 9's backend descriptors, as few as that takes.
 * Tensors are NHWC; A^T is cuDNN's forward convolution, A its backward-data, the weight gradient its backward-filter.
 */
#ifndef CSC_LAYERS_BACKEND_CUDA_DNN_H
#define CSC_LAYERS_BACKEND_CUDA_DNN_H

#include <cudnn_graph.h>

#include "layers/backend/backend.h"

enum dnn_kind { DNN_FORWARD, DNN_ADJOINT, DNN_GRADIENT };

/* What is fused behind the convolution, c being its result in fp32 and a, n, t numbers in device memory:
 *   PLAIN c    SCALE a c    ADD a c + add    SUBTRACT a c - add
 *   SHRINK max(n a c - t, 0)    SHRINK_ADD max(n (a c + add) - t, 0)
 *   MASK_ADD n (a c + add) where mask is not 0, else 0
 * add may be where the result goes: each of its elements is read just before it is written. */
enum dnn_epilogue {
    DNN_PLAIN,
    DNN_SCALE,
    DNN_ADD,
    DNN_SUBTRACT,
    DNN_SHRINK,
    DNN_SHRINK_ADD,
    DNN_MASK_ADD,
    DNN_NOT_FUSED
};

struct dnn_spec {
    enum dnn_kind kind;
    enum dnn_epilogue epilogue;
    struct conv_shape shape;
    enum precision precision;
    bool float_result; /* of a gradient or a plain convolution in bf16: fp32 instead of bf16 */
    bool k_by_1;       /* of stride 1 and without padding: the kernel is k x 1, codes are as wide as the image */
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
/* "cudnn.91900.forward.shrink.8x32x32x64.64.3.1.1.bf16" */
void dnn_spec_key(const struct dnn_spec *spec, char key[128]);
/* Multiplications and additions of the convolution, two each. */
static inline double dnn_flops(const struct dnn_spec *spec)
{
    return 2.0 * (double)dnn_code_count(spec) * (double)(dnn_weight_count(spec) / spec->shape.d);
}

struct dnn_plan {
    cudnnBackendDescriptor_t plan;
    size_t workspace;        /* bytes */
    unsigned tensors;        /* that a call names, see dnn.c */
    struct dnn_graph *graph; /* owned */
};

/* Memory on the device; what the kind or tail does not use may be NULL. */
struct dnn_operands {
    const void *image, *code, *weights; /* the result among them is written */
    const void *add, *mask;
    const float *numbers; /* a, n, t */
};

/* One of cuDNN's engines and its knobs. A plan is built again from these, whatever the rankings propose then. */
enum { DNN_MAX_KNOBS = 8, DNN_MAX_CHOICES = 96 };
struct dnn_choice {
    int engine, knob_count;
    struct dnn_knob {
        int type, value;
    } knobs[DNN_MAX_KNOBS]; /* type: cudnnBackendKnobType_t */
};
/* "e62:2.4:13.0", engine 62 with knob 2 at 4 and knob 13 at 0. parse: false if the text is anything else. */
enum { DNN_CHOICE_TEXT = 64 };
void dnn_choice_print(const struct dnn_choice *choice, char text[DNN_CHOICE_TEXT]);
bool dnn_choice_parse(const char *text, struct dnn_choice *choice);

/* What may be tried for a graph: choices that keep the precision and repeat their bits. The first `ranked` are proposed
 * by cuDNN's heuristics, best first, and by its list of fallbacks. Behind them, for a fused graph, comes every kernel
 * of an engine that cuDNN falls back to and does not rank: on Hopper these are the wgmma kernels. Any of them may be
 * turned down when its plan is built. */
struct dnn_proposals {
    struct dnn_choice choices[DNN_MAX_CHOICES];
    int count, ranked;
};

/* properties: of a device that is not there, for planning without one; NULL: the handle's. Several threads may ask, and
 * build, at a time, each with a handle of its own. */
enum status dnn_propose(cudnnHandle_t handle, cudnnBackendDescriptor_t properties, const struct dnn_spec *spec,
                        struct dnn_proposals *proposals);
/* *plan is NULL where cuDNN has no such plan for the graph, or it needs more than `most` bytes of workspace: not an
 * error. */
enum status dnn_plan_create(struct dnn_plan **plan, cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                            const struct dnn_spec *spec, const struct dnn_choice *choice, size_t max_workspace);
/* The plan's kernel as cuDNN names it, such as "cudnn_generated_convDgrad_pointwise_xmma_sm90_...", or "" where it does
 * not say. Slow: cuDNN prints the whole plan. */
enum { DNN_KERNEL_NAME = 128 };
void dnn_plan_kernel(const struct dnn_plan *plan, char name[DNN_KERNEL_NAME]);
void dnn_plan_destroy(struct dnn_plan *plan); /* NULL is fine */

/* Whether cuDNN will find NVRTC (whose name it gives), with which it compiles what is fused: without, there are no such
 * plans, and no error says why. library_found: the same of any library. */
bool nvrtc_found(char name[32]);
bool library_found(const char *library);

/* Queued on the handle's stream. */
enum status dnn_run(const struct dnn_plan *plan, cudnnHandle_t handle, const struct dnn_operands *operands,
                    void *workspace);

#endif
