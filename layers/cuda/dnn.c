/* dnn.c - builds cuDNN graphs. A graph keeps every descriptor that it made until its plan is destroyed; the first
 * error sticks, and later calls do nothing. */
#include "layers/cuda/dnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DESCRIPTORS = 96, MOST_OPERATIONS = 8 };

/* Names of tensors in a graph. */
enum uid { IMAGE = 1, CODE, WEIGHTS, ADD, MASK, A, N, T, FIRST_VIRTUAL = 100 };

struct dnn_graph {
    cudnnBackendDescriptor_t made[MOST_DESCRIPTORS], operations[MOST_OPERATIONS], graph;
    int made_count, operation_count, virtual_count;
    cudnnStatus_t error;
};

static cudnnBackendDescriptor_t make(struct dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (g->error == CUDNN_STATUS_SUCCESS && g->made_count == MOST_DESCRIPTORS)
        g->error = CUDNN_STATUS_INTERNAL_ERROR;
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->error = cudnnBackendCreateDescriptor(type, &d);
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->made[g->made_count++] = d;
    return d;
}

static void set(struct dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *value)
{
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->error = cudnnBackendSetAttribute(d, name, type, count, value);
}

static void set_descriptor(struct dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                           cudnnBackendDescriptor_t value)
{
    set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static cudnnBackendDescriptor_t done(struct dnn_graph *g, cudnnBackendDescriptor_t d)
{
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->error = cudnnBackendFinalize(d);
    return d;
}

/* ---- tensors: dims in cuDNN's order N C H W, strides of N H W C ---- */

static cudnnBackendDescriptor_t tensor(struct dnn_graph *g, int64_t uid, cudnnDataType_t type, int n, int c, int h, int w)
{
    cudnnBackendDescriptor_t d = make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    int64_t dims[] = { n, c, h, w }, strides[] = { (int64_t)h * w * c, 1, (int64_t)w * c, c }, alignment = 16;
    bool virtual = uid >= FIRST_VIRTUAL;
    if (uid >= A && uid <= T)
        alignment = 4;
    set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (virtual)
        set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &virtual);
    return done(g, d);
}

static cudnnDataType_t stored(const struct dnn_spec *spec)
{
    return spec->precision == PRECISION_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

static cudnnBackendDescriptor_t image_tensor(struct dnn_graph *g, const struct dnn_spec *spec, int64_t uid,
                                             cudnnDataType_t type)
{
    const struct conv_shape *s = &spec->shape;
    return tensor(g, uid, type, s->n, s->c, s->h, s->w);
}

static cudnnBackendDescriptor_t code_tensor(struct dnn_graph *g, const struct dnn_spec *spec, int64_t uid,
                                            cudnnDataType_t type)
{
    const struct conv_shape *s = &spec->shape;
    return tensor(g, uid, type, s->n, s->d, conv_out_h(s), dnn_code_w(spec));
}

static cudnnBackendDescriptor_t weights_tensor(struct dnn_graph *g, const struct dnn_spec *spec, int64_t uid,
                                               cudnnDataType_t type)
{
    const struct conv_shape *s = &spec->shape;
    return tensor(g, uid, type, s->d, s->c, s->k, spec->rows ? 1 : s->k);
}

/* A tensor like the convolution's result. */
static cudnnBackendDescriptor_t result_tensor(struct dnn_graph *g, const struct dnn_spec *spec, int64_t uid,
                                              cudnnDataType_t type)
{
    return spec->kind == DNN_FORWARD   ? code_tensor(g, spec, uid, type)
           : spec->kind == DNN_ADJOINT ? image_tensor(g, spec, uid, type)
                                       : weights_tensor(g, spec, uid, type);
}

static cudnnBackendDescriptor_t between(struct dnn_graph *g, const struct dnn_spec *spec)
{
    return result_tensor(g, spec, FIRST_VIRTUAL + g->virtual_count++, CUDNN_DATA_FLOAT);
}

/* ---- operations ---- */

static void add_operation(struct dnn_graph *g, cudnnBackendDescriptor_t operation)
{
    done(g, operation);
    if (g->operation_count < MOST_OPERATIONS)
        g->operations[g->operation_count++] = operation;
}

static void convolution(struct dnn_graph *g, const struct dnn_spec *spec, cudnnBackendDescriptor_t image,
                        cudnnBackendDescriptor_t code, cudnnBackendDescriptor_t weights)
{
    static const cudnnBackendDescriptorType_t types[] = { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                                                          CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                                                          CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR };
    enum { CONV, IMAGE_AT, CODE_AT, WEIGHTS_AT, ALPHA, BETA };
    static const cudnnBackendAttributeName_t names[][6] = {
        { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
    };
    const struct conv_shape *s = &spec->shape;
    const cudnnBackendAttributeName_t *name = names[spec->kind];
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    int64_t two = 2, pads[] = { s->pad, s->pad }, strides[] = { s->stride, s->stride }, dilations[] = { 1, 1 };
    float one = 1, zero = 0;
    cudnnBackendDescriptor_t conv = make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(g, conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    set(g, conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(g, conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(g, conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(g, conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(g, conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    set(g, conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    done(g, conv);
    cudnnBackendDescriptor_t operation = make(g, types[spec->kind]);
    set_descriptor(g, operation, name[CONV], conv);
    set_descriptor(g, operation, name[IMAGE_AT], image);
    set_descriptor(g, operation, name[CODE_AT], code);
    set_descriptor(g, operation, name[WEIGHTS_AT], weights);
    set(g, operation, name[ALPHA], CUDNN_TYPE_FLOAT, 1, &one);
    set(g, operation, name[BETA], CUDNN_TYPE_FLOAT, 1, &zero);
    add_operation(g, operation);
}

/* to = mode(x, y); RELU_BWD: x where y > 0; y NULL for one operand. */
static void pointwise(struct dnn_graph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                      cudnnBackendDescriptor_t y, cudnnBackendDescriptor_t to)
{
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t how = make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    done(g, how);
    cudnnBackendDescriptor_t operation = make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    if (mode == CUDNN_POINTWISE_RELU_BWD) {
        set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, x);
        set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, y);
        set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, to);
    } else {
        set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
        if (y)
            set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, y);
        set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, to);
    }
    add_operation(g, operation);
}

static cudnnBackendDescriptor_t number(struct dnn_graph *g, int64_t uid)
{
    return tensor(g, uid, CUDNN_DATA_FLOAT, 1, 1, 1, 1);
}

/* v (tail's last operand excluded) times a number, into a new tensor or the result. */
static cudnnBackendDescriptor_t through(struct dnn_graph *g, const struct dnn_spec *spec, cudnnPointwiseMode_t mode,
                                        cudnnBackendDescriptor_t v, cudnnBackendDescriptor_t with,
                                        cudnnBackendDescriptor_t result)
{
    cudnnBackendDescriptor_t to = result ? result : between(g, spec);
    pointwise(g, mode, v, with, to);
    return to;
}

/* From the convolution's sums to what is stored, see enum dnn_tail. */
static void tail(struct dnn_graph *g, const struct dnn_spec *spec, cudnnBackendDescriptor_t sums,
                 cudnnBackendDescriptor_t result)
{
    enum dnn_tail kind = spec->tail;
    bool adds = kind == DNN_ADD || kind == DNN_SUBTRACT || kind == DNN_SHRINK_ADD || kind == DNN_MASK_ADD;
    bool ends = kind == DNN_ADD || kind == DNN_SUBTRACT;
    cudnnBackendDescriptor_t v = through(g, spec, CUDNN_POINTWISE_MUL, sums, number(g, A), kind == DNN_SCALE ? result : NULL);
    if (adds)
        v = through(g, spec, kind == DNN_SUBTRACT ? CUDNN_POINTWISE_SUB : CUDNN_POINTWISE_ADD, v,
                    result_tensor(g, spec, ADD, stored(spec)), ends ? result : NULL);
    if (kind == DNN_SCALE || ends)
        return;
    v = through(g, spec, CUDNN_POINTWISE_MUL, v, number(g, N), NULL);
    if (kind == DNN_MASK_ADD) {
        cudnnBackendDescriptor_t size = through(g, spec, CUDNN_POINTWISE_ABS, result_tensor(g, spec, MASK, stored(spec)), NULL, NULL);
        through(g, spec, CUDNN_POINTWISE_RELU_BWD, v, size, result);
        return;
    }
    v = through(g, spec, CUDNN_POINTWISE_SUB, v, number(g, T), NULL);
    through(g, spec, CUDNN_POINTWISE_RELU_FWD, v, NULL, result);
}

static void build(struct dnn_graph *g, const struct dnn_spec *spec)
{
    static const enum uid uids[] = { CODE, IMAGE, WEIGHTS };
    bool fused = spec->tail != DNN_PLAIN;
    cudnnDataType_t type = stored(spec), result_type = spec->float_result ? CUDNN_DATA_FLOAT : type;
    cudnnBackendDescriptor_t result = result_tensor(g, spec, uids[spec->kind], result_type);
    cudnnBackendDescriptor_t sums = fused ? between(g, spec) : result;
    cudnnBackendDescriptor_t code = spec->kind == DNN_FORWARD ? sums : code_tensor(g, spec, CODE, type);
    cudnnBackendDescriptor_t image = spec->kind == DNN_ADJOINT ? sums : image_tensor(g, spec, IMAGE, type);
    cudnnBackendDescriptor_t weights = spec->kind == DNN_GRADIENT ? sums : weights_tensor(g, spec, WEIGHTS, type);
    convolution(g, spec, image, code, weights);
    if (fused)
        tail(g, spec, sums, result);
    g->graph = make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->operation_count, g->operations);
}

/* The tensors that the graph has, a bit each from IMAGE on: a call names no others. */
static unsigned tensors_of(const struct dnn_spec *spec)
{
    enum dnn_tail tail = spec->tail;
    bool adds = tail == DNN_ADD || tail == DNN_SUBTRACT || tail == DNN_SHRINK_ADD || tail == DNN_MASK_ADD;
    bool shrinks = tail == DNN_SHRINK || tail == DNN_SHRINK_ADD;
    unsigned all = 1u << IMAGE | 1u << CODE | 1u << WEIGHTS;
    all |= adds ? 1u << ADD : 0;
    all |= tail == DNN_MASK_ADD ? 1u << MASK : 0;
    all |= tail != DNN_PLAIN ? 1u << A : 0;
    all |= shrinks || tail == DNN_MASK_ADD ? 1u << N : 0;
    return all | (shrinks ? 1u << T : 0);
}

static void graph_destroy(struct dnn_graph *g)
{
    for (int i = g ? g->made_count - 1 : -1; i >= 0; i--)
        cudnnBackendDestroyDescriptor(g->made[i]);
    free(g);
}

/* ---- proposals and plans ---- */

/* Whether the engine keeps the precision and repeats its bits. */
static bool acceptable(struct dnn_graph *g, cudnnBackendDescriptor_t config, enum precision precision)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendDescriptor_t engine = make(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int64_t count = 0;
    if (g->error != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine) !=
            CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                 CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes) != CUDNN_STATUS_SUCCESS)
        return false;
    for (int64_t i = 0; i < count; i++)
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
            notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION || notes[i] == CUDNN_NUMERICAL_NOTE_FFT ||
            notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD || notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 ||
            notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 || notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13 ||
            (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && precision == PRECISION_FP32))
            return false;
    return true;
}

/* What one of cuDNN's rankings proposes, appended to configs. */
static int propose(struct dnn_graph *g, cudnnBackendDescriptor_t properties, cudnnBackendHeurMode_t mode,
                   cudnnBackendDescriptor_t *configs, int room)
{
    int64_t count = 0;
    cudnnBackendDescriptor_t heuristics = make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->graph);
    set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (properties)
        set_descriptor(g, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, properties);
    if (g->error != CUDNN_STATUS_SUCCESS || cudnnBackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS)
        return 0; /* nothing for this graph */
    for (int i = 0; i < room; i++)
        configs[i] = make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (g->error != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, room, &count,
                                 configs) != CUDNN_STATUS_SUCCESS)
        return 0;
    return (int)count;
}

/* NULL where the engine turns the graph down after all, or needs too much workspace. */
static cudnnBackendDescriptor_t plan_of(struct dnn_graph *g, cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                                        cudnnBackendDescriptor_t config, size_t most, size_t *workspace)
{
    int64_t bytes = 0, count = 0;
    cudnnBackendDescriptor_t plan = make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (properties)
        set_descriptor(g, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, properties);
    else
        set(g, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    set_descriptor(g, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (g->error != CUDNN_STATUS_SUCCESS || cudnnBackendFinalize(plan) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &bytes) !=
            CUDNN_STATUS_SUCCESS ||
        bytes < 0 || (size_t)bytes > most)
        return NULL;
    *workspace = (size_t)bytes;
    return plan;
}

static struct dnn_graph *graph_create(cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                                      const struct dnn_spec *spec)
{
    struct dnn_graph *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    build(g, spec);
    if (!properties)
        set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    done(g, g->graph);
    return g;
}

static int propose_half(struct dnn_graph *g, cudnnBackendDescriptor_t properties, bool ranked,
                        cudnnBackendDescriptor_t *configs)
{
    return propose(g, properties, ranked ? CUDNN_HEUR_MODE_A : CUDNN_HEUR_MODE_FALLBACK, configs, DNN_PROPOSALS / 2);
}

enum status dnn_proposals(cudnnHandle_t handle, cudnnBackendDescriptor_t properties, const struct dnn_spec *spec, int most,
                          int *choices, int *count)
{
    enum status status = STATUS_OK;
    cudnnBackendDescriptor_t configs[DNN_PROPOSALS / 2];
    struct dnn_graph *g = graph_create(handle, properties, spec);
    *count = 0;
    if (!g)
        FAIL(STATUS_NOMEM, "out of memory for a convolution's plan");
    for (int half = 0; half < 2 && *count < most; half++) {
        int proposed = propose_half(g, properties, half == 0, configs);
        for (int i = 0; i < proposed && *count < most; i++)
            if (acceptable(g, configs[i], spec->precision))
                choices[(*count)++] = half * DNN_PROPOSALS / 2 + i;
    }
fail:
    graph_destroy(g);
    return status;
}

enum status dnn_plan_create(struct dnn_plan **out, cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                            const struct dnn_spec *spec, int choice, size_t most)
{
    enum status status = STATUS_OK;
    cudnnBackendDescriptor_t configs[DNN_PROPOSALS / 2];
    struct dnn_plan *plan = calloc(1, sizeof *plan);
    struct dnn_graph *g = graph_create(handle, properties, spec);
    bool ranked = choice < DNN_PROPOSALS / 2;
    *out = NULL;
    if (!plan || !g)
        FAIL(STATUS_NOMEM, "out of memory for a convolution's plan");
    int count = propose_half(g, properties, ranked, configs), at = choice % (DNN_PROPOSALS / 2);
    if (at < count && acceptable(g, configs[at], spec->precision))
        plan->plan = plan_of(g, handle, properties, configs[at], most, &plan->workspace);
    if (!plan->plan)
        goto fail; /* not an error */
    plan->graph = g;
    plan->tensors = tensors_of(spec);
    *out = plan;
    return STATUS_OK;
fail:
    graph_destroy(g);
    free(plan);
    return status;
}

void dnn_plan_destroy(struct dnn_plan *plan)
{
    if (!plan)
        return;
    graph_destroy(plan->graph);
    free(plan);
}

enum status dnn_run(const struct dnn_plan *plan, cudnnHandle_t handle, const struct dnn_operands *o, void *workspace)
{
    enum status status = STATUS_OK;
    const float *numbers = o->numbers;
    const void *all[] = { o->image, o->code, o->weights, o->add, o->mask, numbers, numbers ? numbers + 1 : NULL,
                          numbers ? numbers + 2 : NULL };
    int64_t uids[8], count = 0;
    const void *pointers[8];
    for (int i = 0; i < 8; i++)
        if (plan->tensors >> (IMAGE + i) & 1) {
            uids[count] = IMAGE + i;
            pointers[count++] = all[i];
        }
    cudnnBackendDescriptor_t pack = NULL; /* one call's: a finished one takes no other pointers */
    cudnnStatus_t error = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendFinalize(pack);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendExecute(handle, plan->plan, pack);
    if (pack)
        cudnnBackendDestroyDescriptor(pack);
    if (error != CUDNN_STATUS_SUCCESS)
        FAIL(STATUS_LOST, "cuDNN: %s", cudnnGetErrorString(error));
fail:
    return status;
}

void dnn_spec_key(const struct dnn_spec *spec, char key[128])
{
    static const char *const kinds[] = { "forward", "adjoint", "gradient" };
    static const char *const tails[] = { "plain", "scale", "add", "subtract", "shrink", "shrink-add", "mask-add" };
    const struct conv_shape *s = &spec->shape;
    snprintf(key, 128, "cudnn.%zu.%s.%s.%dx%dx%dx%d.%d.%d%s.%d.%d.%s%s", cudnnGetVersion(), kinds[spec->kind],
             tails[spec->tail], s->n, s->h, s->w, s->c, s->d, s->k, spec->rows ? "r" : "", s->stride, s->pad, precision_name(spec->precision),
             spec->float_result && spec->precision == PRECISION_BF16 ? ".to-fp32" : "");
}
