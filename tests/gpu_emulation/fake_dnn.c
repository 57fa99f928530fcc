/* fake_dnn.c - computes dnn.h's plans by the plain convolutions of the ref backend: in fp32, from operands of the
 * plan's precision, rounded once when the result is stored. There is no plan for masked adjoints, so that conv.c has
 * to do without one. */
#include <cudnn_graph.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/cuda/dnn.h"
#include "layers/backend/cuda/nvrtc.h"
#include "layers/backend/element.h"
#include "layers/backend/ref/ref.h"
#include "tests/gpu_emulation/fake_cuda.h"

enum { PROPOSALS = 2 };              /* of plain graphs */
#define WORKSPACE ((size_t)48 << 20) /* workspace of plans of some adjoints: more than a side stream has */

struct fake_cudnn {
    cudaStream_t stream;
};

/* A plan; its buffers are memory of the host. */
struct dnn_graph {
    struct dnn_spec spec;
    double cost; /* milliseconds */
    bool fails;
    struct conv *plain;
    void *packed, *scratch;
    float *image, *code, *weights;
};

size_t cudnnGetVersion(void)
{
    return 91900;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_SUCCESS ? "success" : "not initialized";
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = calloc(1, sizeof **handle);
    return *handle ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_INITIALIZED;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}

/* CSC_FAKE_NVRTC=none: cuDNN finds no run-time compiler. */
bool nvrtc_found(char name[32])
{
    const char *nvrtc = getenv("CSC_FAKE_NVRTC");
    snprintf(name, 32, "libnvrtc.so.13");
    return !nvrtc || strcmp(nvrtc, "none") != 0;
}

/* CSC_FAKE_DNN=plain: there are no plans for fused graphs. */
static bool fuses(void)
{
    const char *dnn = getenv("CSC_FAKE_DNN");
    return !dnn || strcmp(dnn, "plain") != 0;
}

/* Engines 0 and 1 have plans for plain graphs, engine 0 also for fused ones. Engine 2 is a fallback that has one
 * kernel, faster than everything ranked, for fused graphs with stride 1. Fused adjoints with another stride are
 * slow. */
enum { FAST_ENGINE = 2, FAST_KERNEL = 5 };

static bool is_fast(const struct dnn_choice *choice)
{
    return choice->engine == FAST_ENGINE && choice->knob_count == 1 &&
           choice->knobs[0].type == CUDNN_KNOB_TYPE_KERNEL_CFG && choice->knobs[0].value == FAST_KERNEL;
}

static bool has_plan(const struct dnn_spec *s, const struct dnn_choice *choice)
{
    if (s->epilogue != DNN_PLAIN && (!fuses() || (s->kind == DNN_ADJOINT && s->epilogue == DNN_MASK_ADD)))
        return false;
    if (choice->engine == FAST_ENGINE)
        return s->epilogue != DNN_PLAIN && s->shape.stride == 1 && is_fast(choice);
    return choice->knob_count == 0 && choice->engine < (s->epilogue == DNN_PLAIN ? PROPOSALS : 1);
}

/* Milliseconds on the GPU's clock. */
static double cost(const struct dnn_spec *s, const struct dnn_choice *choice)
{
    return is_fast(choice) ? 0.5 : s->kind == DNN_ADJOINT && s->epilogue != DNN_PLAIN && s->shape.stride > 1 ? 4 : 1;
}

enum status dnn_propose(cudnnHandle_t handle, cudnnBackendDescriptor_t properties, const struct dnn_spec *spec,
                        struct dnn_proposals *proposals)
{
    (void)handle;
    (void)properties;
    *proposals = (struct dnn_proposals){ 0 };
    for (int i = 0; i < PROPOSALS; i++) {
        const struct dnn_choice choice = { .engine = i };
        if (has_plan(spec, &choice))
            proposals->choices[proposals->count++] = choice;
    }
    proposals->ranked = proposals->count;
    for (int i = 0; i < FAST_KERNEL + 2 && spec->epilogue != DNN_PLAIN; i++) /* only one of these can be built */
        proposals->choices[proposals->count++] = (struct dnn_choice){ .engine = FAST_ENGINE,
                                                                      .knob_count = 1,
                                                                      .knobs = { { CUDNN_KNOB_TYPE_KERNEL_CFG, i } } };
    return STATUS_OK;
}

void dnn_plan_kernel(const struct dnn_plan *plan, char name[DNN_KERNEL_NAME])
{
    snprintf(name, DNN_KERNEL_NAME, "fake_%s_kernel_%.1f_ms", plan->graph->cost < 1 ? "sm90" : "sm80",
             plan->graph->cost);
}

enum status dnn_plan_create(struct dnn_plan **out, cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                            const struct dnn_spec *spec, const struct dnn_choice *choice, size_t max_workspace)
{
    enum status status = STATUS_OK;
    static const unsigned uses[] = { CONV_FORWARD, CONV_ADJOINT, CONV_GRADIENT };
    struct arena measure = { 0 };
    struct dnn_plan *plan = calloc(1, sizeof *plan);
    struct dnn_graph *g = calloc(1, sizeof *g);
    struct conv_shape square = spec->shape;
    square.w += spec->k_by_1 ? square.k : 0; /* not used, but it must be valid */
    (void)properties;
    *out = NULL;
    if (!plan || !g)
        FAIL(STATUS_NOMEM, "out of memory");
    if (!handle || ((spec->kind == DNN_GRADIENT || spec->float_result) && spec->epilogue != DNN_PLAIN) ||
        spec->shape.c % 8 != 0)
        FAIL(STATUS_BUG, "cuDNN is not asked like that");
    plan->workspace = spec->kind == DNN_ADJOINT && spec->shape.d % 16 == 0 ? WORKSPACE : 0;
    if (!has_plan(spec, choice) || plan->workspace > max_workspace)
        goto fail;
    g->spec = *spec;
    g->cost = cost(spec, choice);
    g->fails = spec->kind == DNN_GRADIENT &&
               choice->engine == 1; /* like an engine that needs more memory than there is */
    TRY(ref_conv_create(NULL, &square, PRECISION_FP32, uses[spec->kind], &g->plain));
    ref_conv_assign_memory(g->plain, &measure);
    g->packed = aligned_alloc(ARENA_ALIGN, measure.used + ARENA_ALIGN);
    g->scratch = malloc(g->plain->scratch + 1);
    g->image = malloc(conv_in_count(&spec->shape) * sizeof *g->image);
    g->code = malloc(dnn_code_count(spec) * sizeof *g->code);
    g->weights = malloc(dnn_weight_count(spec) * sizeof *g->weights);
    if (!g->packed || !g->scratch || !g->image || !g->code || !g->weights)
        FAIL(STATUS_NOMEM, "out of memory");
    measure = (struct arena){ .memory = g->packed, .size = measure.used };
    ref_conv_assign_memory(g->plain, &measure);
    plan->graph = g;
    *out = plan;
    return STATUS_OK;
fail:
    if (plan)
        plan->graph = g;
    dnn_plan_destroy(plan);
    return status;
}

void dnn_plan_destroy(struct dnn_plan *plan)
{
    struct dnn_graph *g = plan ? plan->graph : NULL;
    if (g) {
        ref_conv_destroy(g->plain);
        free(g->packed);
        free(g->scratch);
        free(g->image);
        free(g->code);
        free(g->weights);
        free(g);
    }
    free(plan);
}

static void read_floats(enum precision precision, const void *from, float *to, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = element_load(precision, from, i);
}

/* For a k x 1 kernel: adds all products to the result. */
static void multiply_k_by_1(const struct dnn_spec *spec, float *image, float *code, float *weights)
{
    const struct conv_shape *s = &spec->shape;
    size_t out_h = (size_t)conv_out_h(s), pixels = s->n * out_h * s->w;
    for (size_t p = 0; p < pixels; p++)
        for (int i = 0; i < s->d * s->k; i++) {
            size_t n = p / s->w / out_h, row = p / s->w % out_h + i % s->k;
            float *from = image + ((n * s->h + row) * s->w + p % s->w) * s->c, *w = weights + (size_t)i * s->c;
            float *to = code + p * s->d + i / s->k;
            for (int c = 0; c < s->c; c++)
                if (spec->kind == DNN_FORWARD)
                    *to += from[c] * w[c];
                else if (spec->kind == DNN_ADJOINT)
                    from[c] += *to * w[c];
                else
                    w[c] += *to * from[c];
        }
}

/* See enum dnn_epilogue. */
static float apply_epilogue(const struct dnn_spec *s, const struct dnn_operands *o, float v, size_t i)
{
    const float *scalars = o->scalars; /* alpha, nu, threshold */
    bool adds = s->epilogue == DNN_ADD || s->epilogue == DNN_SUBTRACT || s->epilogue == DNN_SHRINK_ADD ||
                s->epilogue == DNN_MASK_ADD;
    if (s->epilogue == DNN_PLAIN)
        return v;
    v *= scalars[0];
    if (adds)
        v += (s->epilogue == DNN_SUBTRACT ? -1 : 1) * element_load(s->precision, o->add, i);
    if (s->epilogue == DNN_SCALE || s->epilogue == DNN_ADD || s->epilogue == DNN_SUBTRACT)
        return v;
    v *= scalars[1];
    if (s->epilogue == DNN_MASK_ADD)
        return element_load(s->precision, o->mask, i) != 0 ? v : 0;
    v -= scalars[2];
    return v > 0 ? v : 0;
}

static enum status compute(struct dnn_graph *g, const struct dnn_operands *o)
{
    enum status status = STATUS_OK;
    const struct dnn_spec *s = &g->spec;
    const struct epilogue plain = { .alpha = 1 };
    const struct gradient_term term = { g->image, g->code, 1, NULL };
    const size_t counts[] = { dnn_code_count(s), conv_in_count(&s->shape), dnn_weight_count(s) };
    float *const results[] = { g->code, g->image, g->weights }, *result = results[s->kind];
    const void *const outs[] = { o->code, o->image, o->weights };
    if (s->kind != DNN_ADJOINT)
        read_floats(s->precision, o->image, g->image, counts[DNN_ADJOINT]);
    if (s->kind != DNN_FORWARD)
        read_floats(s->precision, o->code, g->code, counts[DNN_FORWARD]);
    if (s->kind != DNN_GRADIENT)
        read_floats(s->precision, o->weights, g->weights, counts[DNN_GRADIENT]);
    memset(result, 0, counts[s->kind] * sizeof *result);
    if (s->kind != DNN_GRADIENT && !s->k_by_1)
        TRY(ref_conv_load(g->plain, g->weights, g->scratch));
    if (s->k_by_1)
        multiply_k_by_1(s, g->image, g->code, g->weights);
    else if (s->kind == DNN_GRADIENT)
        TRY(ref_conv_gradient(g->plain, &term, 1, g->weights, g->scratch));
    else if (s->kind == DNN_FORWARD)
        TRY(ref_conv_forward(g->plain, g->image, g->code, &plain, g->scratch));
    else
        TRY(ref_conv_adjoint(g->plain, g->code, g->image, &plain, g->scratch));
    for (size_t i = 0; i < counts[s->kind]; i++)
        element_store(s->float_result ? PRECISION_FP32 : s->precision, (void *)outs[s->kind], i,
                      apply_epilogue(s, o, result[i], i));
fail:
    return status;
}

/* Whether a tensor lies on the device and is aligned as its descriptor says. */
static bool is_aligned_on_device(const void *memory, size_t bytes, size_t alignment)
{
    return fake_cuda_owns(memory, bytes) && (uintptr_t)memory % alignment == 0;
}

struct run {
    struct dnn_graph *graph;
    struct dnn_operands operands;
};

static void run(const void *arguments)
{
    const struct run *r = arguments;
    fake_cuda_unlock();
    if (compute(r->graph, &r->operands) != STATUS_OK)
        abort();
    fake_cuda_lock();
    fake_cuda_advance_clock(r->graph->cost);
}

enum status dnn_run(const struct dnn_plan *plan, cudnnHandle_t handle, const struct dnn_operands *o, void *workspace)
{
    enum status status = STATUS_OK;
    const struct dnn_spec *s = &plan->graph->spec;
    size_t bytes = precision_bytes(s->precision), result_bytes = s->float_result ? sizeof(float) : bytes;
    size_t result = (s->kind == DNN_FORWARD ? dnn_code_count(s) : conv_in_count(&s->shape)) * bytes;
    bool adds = s->epilogue == DNN_ADD || s->epilogue == DNN_SUBTRACT || s->epilogue == DNN_SHRINK_ADD ||
                s->epilogue == DNN_MASK_ADD;
    if (!handle || !fake_cuda_owns(workspace, plan->workspace + 1) ||
        !is_aligned_on_device(o->image, conv_in_count(&s->shape) * (s->kind == DNN_ADJOINT ? result_bytes : bytes),
                              16) ||
        !is_aligned_on_device(o->code, dnn_code_count(s) * (s->kind == DNN_FORWARD ? result_bytes : bytes), 16) ||
        !is_aligned_on_device(o->weights, dnn_weight_count(s) * (s->kind == DNN_GRADIENT ? result_bytes : bytes), 16) ||
        (adds && !is_aligned_on_device(o->add, result, 16)) ||
        (s->epilogue == DNN_MASK_ADD && !is_aligned_on_device(o->mask, result, 16)) ||
        (s->epilogue != DNN_PLAIN && !is_aligned_on_device(o->scalars, 3 * sizeof(float), 4)))
        FAIL(STATUS_BUG, "a tensor of a cuDNN graph is not on the device, or not aligned");
    if (plan->graph->fails)
        FAIL(STATUS_LOST, "cuDNN: execution failed");
    const struct run whole = { plan->graph, *o };
    if (fake_cuda_enqueue(handle->stream, run, &whole, sizeof whole) != cudaSuccess)
        FAIL(STATUS_LOST, "cuDNN: execution failed");
fail:
    return status;
}

void dnn_spec_key(const struct dnn_spec *spec, char key[DNN_SPEC_KEY])
{
    const struct conv_shape *s = &spec->shape;
    snprintf(key, DNN_SPEC_KEY, "fake.%d.%d.%dx%dx%dx%d.%d.%d.%d.%d.%d.%d.%d", spec->kind, spec->epilogue, s->n, s->h,
             s->w, s->c, s->d, s->k, s->stride, s->pad, spec->precision, spec->float_result, spec->k_by_1);
}
