/* dnn_graph.c - cuDNN's description of a convolution and its fused epilogue: tensors and operations. A graph owns
 * every descriptor that it made. After the first error, later calls do nothing. */
#include "layers/backend/cuda/dnn_graph.h"

#include <stdlib.h>

enum { FIRST_VIRTUAL = 100 }; /* first id of tensors that exist only inside a graph */

cudnnBackendDescriptor_t dnn_graph_make(struct dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (g->error == CUDNN_STATUS_SUCCESS && g->made_count == DNN_DESCRIPTORS)
        g->error = CUDNN_STATUS_INTERNAL_ERROR;
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->error = cudnnBackendCreateDescriptor(type, &d);
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->made[g->made_count++] = d;
    return d;
}

void dnn_graph_set(struct dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void *value)
{
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->error = cudnnBackendSetAttribute(d, name, type, count, value);
}

void dnn_graph_set_descriptor(struct dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                              cudnnBackendDescriptor_t value)
{
    dnn_graph_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

cudnnBackendDescriptor_t dnn_graph_finalize(struct dnn_graph *g, cudnnBackendDescriptor_t d)
{
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->error = cudnnBackendFinalize(d);
    return d;
}

/* ---- tensors: dims in cuDNN's order N C H W, strides of N H W C ---- */

static cudnnBackendDescriptor_t tensor(struct dnn_graph *g, int64_t uid, cudnnDataType_t type, int n, int c, int h,
                                       int w)
{
    cudnnBackendDescriptor_t d = dnn_graph_make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    int64_t dims[] = { n, c, h, w }, strides[] = { (int64_t)h * w * c, 1, (int64_t)w * c, c }, alignment = 16;
    bool virtual = uid >= FIRST_VIRTUAL;
    if (uid >= DNN_ALPHA && uid <= DNN_THRESHOLD)
        alignment = 4;
    dnn_graph_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_graph_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    dnn_graph_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    dnn_graph_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    dnn_graph_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (virtual)
        dnn_graph_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &virtual);
    return dnn_graph_finalize(g, d);
}

static cudnnDataType_t element_type(const struct dnn_spec *spec)
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
    return tensor(g, uid, type, s->d, s->c, s->k, spec->k_by_1 ? 1 : s->k);
}

/* A tensor with the shape of the convolution's result. */
static cudnnBackendDescriptor_t result_tensor(struct dnn_graph *g, const struct dnn_spec *spec, int64_t uid,
                                              cudnnDataType_t type)
{
    return spec->kind == DNN_FORWARD   ? code_tensor(g, spec, uid, type)
           : spec->kind == DNN_ADJOINT ? image_tensor(g, spec, uid, type)
                                       : weights_tensor(g, spec, uid, type);
}

static cudnnBackendDescriptor_t intermediate_tensor(struct dnn_graph *g, const struct dnn_spec *spec)
{
    return result_tensor(g, spec, FIRST_VIRTUAL + g->virtual_count++, CUDNN_DATA_FLOAT);
}

/* ---- operations ---- */

static void add_operation(struct dnn_graph *g, cudnnBackendDescriptor_t operation)
{
    dnn_graph_finalize(g, operation);
    if (g->error == CUDNN_STATUS_SUCCESS && g->operation_count == DNN_OPERATIONS)
        g->error = CUDNN_STATUS_INTERNAL_ERROR;
    if (g->error == CUDNN_STATUS_SUCCESS)
        g->operations[g->operation_count++] = operation;
}

static void convolution(struct dnn_graph *g, const struct dnn_spec *spec, cudnnBackendDescriptor_t image,
                        cudnnBackendDescriptor_t code, cudnnBackendDescriptor_t weights)
{
    static const cudnnBackendDescriptorType_t types[] = {
        CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR
    };
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
    cudnnBackendDescriptor_t conv = dnn_graph_make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    dnn_graph_set(g, conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    dnn_graph_set(g, conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    dnn_graph_set(g, conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dnn_graph_set(g, conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    dnn_graph_set(g, conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    dnn_graph_set(g, conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    dnn_graph_set(g, conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    dnn_graph_finalize(g, conv);
    cudnnBackendDescriptor_t operation = dnn_graph_make(g, types[spec->kind]);
    dnn_graph_set_descriptor(g, operation, name[CONV], conv);
    dnn_graph_set_descriptor(g, operation, name[IMAGE_AT], image);
    dnn_graph_set_descriptor(g, operation, name[CODE_AT], code);
    dnn_graph_set_descriptor(g, operation, name[WEIGHTS_AT], weights);
    dnn_graph_set(g, operation, name[ALPHA], CUDNN_TYPE_FLOAT, 1, &one);
    dnn_graph_set(g, operation, name[BETA], CUDNN_TYPE_FLOAT, 1, &zero);
    add_operation(g, operation);
}

/* Adds the operation to = mode(x, y). y is NULL for modes of one operand; RELU_BWD gives x where y > 0, else 0. */
static void pointwise(struct dnn_graph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                      cudnnBackendDescriptor_t y, cudnnBackendDescriptor_t to)
{
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t how = dnn_graph_make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dnn_graph_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    dnn_graph_set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    dnn_graph_finalize(g, how);
    cudnnBackendDescriptor_t operation = dnn_graph_make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    dnn_graph_set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    if (mode == CUDNN_POINTWISE_RELU_BWD) {
        dnn_graph_set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, x);
        dnn_graph_set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, y);
        dnn_graph_set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, to);
    } else {
        dnn_graph_set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
        if (y)
            dnn_graph_set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, y);
        dnn_graph_set_descriptor(g, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, to);
    }
    add_operation(g, operation);
}

static cudnnBackendDescriptor_t scalar_tensor(struct dnn_graph *g, int64_t uid)
{
    return tensor(g, uid, CUDNN_DATA_FLOAT, 1, 1, 1, 1);
}

/* Adds mode(v, with) and returns its result: a new intermediate tensor, or `result` if that is not NULL. */
static cudnnBackendDescriptor_t add_pointwise(struct dnn_graph *g, const struct dnn_spec *spec,
                                              cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t v,
                                              cudnnBackendDescriptor_t with, cudnnBackendDescriptor_t result)
{
    cudnnBackendDescriptor_t to = result ? result : intermediate_tensor(g, spec);
    pointwise(g, mode, v, with, to);
    return to;
}

/* Adds the operations between the convolution's sums and what is stored, see enum dnn_epilogue. */
static void add_epilogue(struct dnn_graph *g, const struct dnn_spec *spec, cudnnBackendDescriptor_t sums,
                         cudnnBackendDescriptor_t result)
{
    enum dnn_epilogue kind = spec->epilogue;
    bool adds = kind == DNN_ADD || kind == DNN_SUBTRACT || kind == DNN_SHRINK_ADD || kind == DNN_MASK_ADD;
    bool ends = kind == DNN_ADD || kind == DNN_SUBTRACT;
    cudnnBackendDescriptor_t v = add_pointwise(g, spec, CUDNN_POINTWISE_MUL, sums, scalar_tensor(g, DNN_ALPHA),
                                               kind == DNN_SCALE ? result : NULL);
    if (adds)
        v = add_pointwise(g, spec, kind == DNN_SUBTRACT ? CUDNN_POINTWISE_SUB : CUDNN_POINTWISE_ADD, v,
                          result_tensor(g, spec, DNN_ADDEND, element_type(spec)), ends ? result : NULL);
    if (kind == DNN_SCALE || ends)
        return;
    v = add_pointwise(g, spec, CUDNN_POINTWISE_MUL, v, scalar_tensor(g, DNN_NU), NULL);
    if (kind == DNN_MASK_ADD) {
        cudnnBackendDescriptor_t size = add_pointwise(g, spec, CUDNN_POINTWISE_ABS,
                                                      result_tensor(g, spec, DNN_MASK, element_type(spec)), NULL, NULL);
        add_pointwise(g, spec, CUDNN_POINTWISE_RELU_BWD, v, size, result);
        return;
    }
    v = add_pointwise(g, spec, CUDNN_POINTWISE_SUB, v, scalar_tensor(g, DNN_THRESHOLD), NULL);
    add_pointwise(g, spec, CUDNN_POINTWISE_RELU_FWD, v, NULL, result);
}

static void build(struct dnn_graph *g, const struct dnn_spec *spec)
{
    static const enum dnn_uid uids[] = { DNN_CODE, DNN_IMAGE, DNN_WEIGHTS };
    bool fused = spec->epilogue != DNN_PLAIN;
    cudnnDataType_t type = element_type(spec), result_type = spec->float_result ? CUDNN_DATA_FLOAT : type;
    cudnnBackendDescriptor_t result = result_tensor(g, spec, uids[spec->kind], result_type);
    cudnnBackendDescriptor_t sums = fused ? intermediate_tensor(g, spec) : result;
    cudnnBackendDescriptor_t code = spec->kind == DNN_FORWARD ? sums : code_tensor(g, spec, DNN_CODE, type);
    cudnnBackendDescriptor_t image = spec->kind == DNN_ADJOINT ? sums : image_tensor(g, spec, DNN_IMAGE, type);
    cudnnBackendDescriptor_t weights = spec->kind == DNN_GRADIENT ? sums : weights_tensor(g, spec, DNN_WEIGHTS, type);
    convolution(g, spec, image, code, weights);
    if (fused)
        add_epilogue(g, spec, sums, result);
    g->graph = dnn_graph_make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dnn_graph_set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->operation_count,
                  g->operations);
}

unsigned dnn_graph_tensors(const struct dnn_spec *spec)
{
    enum dnn_epilogue epilogue = spec->epilogue;
    bool adds = epilogue == DNN_ADD || epilogue == DNN_SUBTRACT || epilogue == DNN_SHRINK_ADD ||
                epilogue == DNN_MASK_ADD;
    bool shrinks = epilogue == DNN_SHRINK || epilogue == DNN_SHRINK_ADD;
    unsigned all = 1u << DNN_IMAGE | 1u << DNN_CODE | 1u << DNN_WEIGHTS;
    all |= adds ? 1u << DNN_ADDEND : 0;
    all |= epilogue == DNN_MASK_ADD ? 1u << DNN_MASK : 0;
    all |= epilogue != DNN_PLAIN ? 1u << DNN_ALPHA : 0;
    all |= shrinks || epilogue == DNN_MASK_ADD ? 1u << DNN_NU : 0;
    return all | (shrinks ? 1u << DNN_THRESHOLD : 0);
}

void dnn_graph_destroy(struct dnn_graph *g)
{
    for (int i = g ? g->made_count - 1 : -1; i >= 0; i--)
        cudnnBackendDestroyDescriptor(g->made[i]);
    free(g);
}

struct dnn_graph *dnn_graph_create(cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                                   const struct dnn_spec *spec)
{
    struct dnn_graph *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    build(g, spec);
    if (!properties)
        dnn_graph_set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    dnn_graph_finalize(g, g->graph);
    return g;
}
