/* net.c - runs a model's nodes over activations (N,h,w,c), forward and backward. */
#include "layers/net_internal.h"

#include <assert.h>

struct reduce_layout net_reduce_layout(const struct model *model)
{
    size_t moments = (model->running_count + 15) / 16 * 16;
    return (struct reduce_layout){ .gradients = REDUCE_BN_STATISTICS + moments,
                                   .count = REDUCE_BN_STATISTICS + moments + model->count };
}

static const float *param_of(const struct net *net, const struct node *node, int i)
{
    return net->model->weights + net->model->params[node->param + i].offset;
}

enum status net_load_node(struct net *net, int i)
{
    enum status status = STATUS_OK;
    const struct node *node = &net->model->nodes[i];
    if (net->ops[i].conv)
        TRY(net->model->device->ops->conv_load(net->ops[i].conv, param_of(net, node, 0), net->scratch));
    if (net->ops[i].csc)
        TRY(csc_load(net->ops[i].csc, param_of(net, node, 0), net->scratch));
fail:
    return status;
}

static enum status load_weights(struct net *net)
{
    enum status status = STATUS_OK;
    if (net->version == net->model->version)
        return STATUS_OK;
    for (int i = 0; i < net->model->nodes_count; i++)
        TRY(net_load_node(net, i));
    net->version = net->model->version;
fail:
    return status;
}

size_t net_image_floats(const struct net *net)
{
    return net_edge_count(net, 0) / net->n;
}

static void upload_labels(struct net *net, const int32_t *labels, int count)
{
    struct device *device = net->model->device;
    int32_t none = -1;
    net->count = count;
    device->ops->copy_in(device, net->labels, labels, count * sizeof *labels);
    for (int i = count; i < net->n; i++)
        device->ops->copy_in(device, net->labels + i, &none, sizeof none);
}

enum status net_upload(struct net *net, const float *images, const int32_t *labels, int count)
{
    struct device *device = net->model->device;
    device->ops->upload(device, net->value[0], images, net_image_floats(net) * count);
    upload_labels(net, labels, count);
    return STATUS_OK;
}

enum status net_upload_pixels(struct net *net, const void *raw, size_t bytes, const struct pixel_scale *scale,
                              const int32_t *labels, int count)
{
    struct device *device = net->model->device;
    device->ops->upload_pixels(device, net->value[0], raw, bytes, count, net->model->edges[0].h, scale);
    upload_labels(net, labels, count);
    return STATUS_OK;
}

static struct pool_shape pool_of(const struct net *net, const struct node *node)
{
    return (struct pool_shape){ .n = net->n,
                                .h = node->conv.h,
                                .w = node->conv.w,
                                .c = node->conv.c,
                                .k = node->conv.k,
                                .stride = node->conv.stride,
                                .pad = node->conv.pad };
}

static void forward_norm(struct net *net, int i, float *moments)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct edge *e = &m->edges[node->out];
    struct norm_shape shape = { .rows = (size_t)net->n * e->h * e->w, .c = e->c, .relu = node->relu };
    const void *add = node->add >= 0 ? net->value[node->add] : NULL;
    shape.relu_mask = net->ops[i].relu_mask;
    if (moments)
        m->device->ops->norm_forward(m->device, &shape, net->value[node->in], param_of(net, node, 0),
                                     param_of(net, node, 1), add, net->value[node->out], net->ops[i].saved,
                                     moments + node->running);
    else
        m->device->ops->norm_inference(m->device, &shape, net->value[node->in], param_of(net, node, 0),
                                       param_of(net, node, 1), m->running + node->running, add, net->value[node->out]);
}

static void forward_norm_max(struct net *net, int i, float *moments)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct edge *e = &m->edges[node->out];
    const struct norm_shape shape = { .rows = (size_t)net->n * e->h * e->w, .c = e->c, .relu = node->relu };
    const struct pool_shape pool = pool_of(net, node + 1);
    const struct op *op = &net->ops[i];
    m->device->ops->norm_max_forward(m->device, &shape, &pool, net->value[node->in], param_of(net, node, 0),
                                     param_of(net, node, 1), net->value[node[1].out], op->saved,
                                     moments + node->running, op->argmax_in_window, op->argmax_value);
}

static enum status forward_node(struct net *net, int i, float *moments, struct csc_diagnostics *diagnostics)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct backend *ops = m->device->ops;
    const void *in = net->value[node->in];
    void *out = net->value[node->out];
    struct epilogue plain = { .alpha = 1 };
    struct pool_shape pool = pool_of(net, node);
    if (net->overlapped && (node->kind == NODE_CONV || node->kind == NODE_CSC))
        ops->event_wait(m->device, i);
    switch (node->kind) {
    case NODE_CONV: TRY(ops->conv_forward(net->ops[i].conv, in, out, &plain, net->scratch)); break;
    case NODE_CSC: TRY(net_forward_csc(net, i, diagnostics)); break;
    case NODE_NORM:
        if (moments && net->ops[i].fused_pool >= 0)
            forward_norm_max(net, i, moments);
        else
            forward_norm(net, i, moments);
        break;
    case NODE_MAX:
        if (!moments || !net->ops[i].fused_with_norm)
            ops->max_forward(m->device, &pool, in, out, net->ops[i].argmax);
        break;
    case NODE_MEAN: ops->mean_forward(m->device, net->n, pool.h * pool.w, pool.c, in, out); break;
    case NODE_LINEAR:
        ops->linear_forward(m->device, net->n, node->conv.c, node->conv.d, in, param_of(net, node, 0),
                            param_of(net, node, 1), out);
        break;
    }
fail:
    return status;
}

enum status net_infer(struct net *net, struct csc_diagnostics *diagnostics)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    TRY(model_run_pending_iterations(net->model));
    TRY(load_weights(net));
    for (int i = 0; i < m->nodes_count; i++)
        TRY(forward_node(net, i, NULL, diagnostics));
fail:
    return status;
}

void net_get_activations(const struct net *net, int edge, int count, float *host)
{
    struct device *device = net->model->device;
    size_t elements = net_edge_count(net, edge) / net->n * count;
    assert(net->training && count <= net->n);
    if (net->model->edges[edge].floats)
        device->ops->copy_out(device, host, net->value[edge], elements * sizeof *host);
    else
        device->ops->download(device, host, net->value[edge], elements);
}

void net_streams_end(struct net *net)
{
    net->overlapped = false;
    net->model->device->ops->streams_end(net->model->device);
}

enum status net_forward(struct net *net, float *reduce_buffer)
{
    enum status status = STATUS_OK;
    TRY(model_run_pending_iterations(net->model));
    TRY(load_weights(net));
    for (int i = 0; i < net->model->nodes_count; i++)
        TRY(forward_node(net, i, reduce_buffer + REDUCE_BN_STATISTICS, NULL));
    if (net->overlapped)
        net_streams_end(net);
fail:
    return status;
}

int net_logits_edge(const struct net *net)
{
    return net->model->nodes[net->model->nodes_count - 1].out;
}

enum status net_losses(struct net *net, float smoothing, float *losses, float *logits)
{
    struct device *device = net->model->device;
    int classes = net->model->config.classes;
    float *out = net->value[net_logits_edge(net)];
    device->ops->cross_entropy(device, net->n, classes, out, net->labels, smoothing, 1, net->losses, NULL, NULL);
    device->ops->copy_out(device, losses, net->losses, net->count * sizeof *losses);
    if (logits)
        device->ops->copy_out(device, logits, out, (size_t)net->count * classes * sizeof *logits);
    return STATUS_OK;
}

static void backward_norm(struct net *net, int i, float *grads)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct edge *e = &m->edges[node->out];
    const struct op *op = &net->ops[i];
    const struct param *weight = &m->params[node->param];
    const float *gamma = m->weights + weight->offset;
    float *dgamma = grads + weight->offset, *dbeta = grads + weight[1].offset;
    struct norm_shape shape = {
        .rows = (size_t)net->n * e->h * e->w, .c = e->c, .relu = node->relu, .relu_mask = op->relu_mask
    };
    if (op->code_node >= 0) {
        shape.code_scale = csc_mask_factor(net->ops[op->code_node].csc, m->eta[m->nodes[op->code_node].csc]);
        shape.code_scale_device = csc_mask_factor_device(net->ops[op->code_node].csc);
    }
    if (op->fused_pool >= 0) {
        const struct pool_shape pool = pool_of(net, node + 1);
        m->device->ops->norm_max_backward(m->device, &shape, &pool, net->value[node->in], op->argmax_in_window,
                                          op->argmax_value, net->grad[node[1].out], net->grad[node->in], gamma,
                                          op->saved, dgamma, dbeta);
        return;
    }
    const void *x = net->value[node->in], *y = net->value[node->out], *addend = net->grad_addend[node->out];
    void *dy = net->grad[node->out], *dadd = node->add >= 0 ? net->grad[node->add] : NULL;
    if (addend)
        m->device->ops->norm_backward_of_sum(m->device, &shape, x, y, dy, addend, gamma, op->saved, dadd,
                                             op->add_accumulates, dgamma, dbeta);
    else
        m->device->ops->norm_backward(m->device, &shape, x, y, dy, gamma, op->saved, dadd, op->add_accumulates, dgamma,
                                      dbeta);
}

static enum status backward_conv(struct net *net, int i, float *dw)
{
    enum status status = STATUS_OK;
    const struct node *node = &net->model->nodes[i];
    const struct backend *ops = net->model->device->ops;
    struct op *op = &net->ops[i];
    void *dx = net->grad[node->in];
    struct gradient_term term = { net->value[node->in], net->grad[node->out], 1, NULL };
    struct epilogue e = { .alpha = 1, .beta = 1, .add = op->in_accumulates ? dx : NULL };
    if (dw)
        TRY(ops->conv_gradient(op->conv, &term, 1, dw, net->scratch));
    if (dx)
        TRY(ops->conv_adjoint(op->conv, net->grad[node->out], dx, &e, net->scratch));
fail:
    return status;
}

enum status net_backward_node(struct net *net, int i, float *grads)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct backend *ops = m->device->ops;
    struct op *op = &net->ops[i];
    void *dy = net->grad[node->out], *dx = net->grad[node->in];
    float *dw = grads && node->param >= 0 ? grads + m->params[node->param].offset : NULL;
    float *db = grads && node->kind == NODE_LINEAR ? grads + m->params[node->param + 1].offset : NULL;
    struct pool_shape pool = pool_of(net, node);
    switch (node->kind) {
    case NODE_CONV: TRY(backward_conv(net, i, dw)); break;
    case NODE_CSC:
        TRY(csc_backward(op->csc, net->value[node->in], m->eta[node->csc], net->value[node->out], dy,
                         grads && op->gradient_masked, net->grad_addend[node->in] ? net->grad_addend[node->in] : dx,
                         op->in_accumulates, dw, net->scratch));
        break;
    case NODE_NORM:
        if (grads)
            backward_norm(net, i, grads);
        else
            net_backward_frozen_norm(net, i);
        break;
    case NODE_MAX:
        if (!op->fused_with_norm)
            ops->max_backward(m->device, &pool, dy, op->argmax, dx, op->in_accumulates);
        break;
    case NODE_MEAN: ops->mean_backward(m->device, net->n, pool.h * pool.w, pool.c, dy, dx); break;
    case NODE_LINEAR:
        ops->linear_backward(m->device, net->n, node->conv.c, node->conv.d, net->value[node->in],
                             param_of(net, node, 0), dy, dx, dw ? dw : net->linear_grads,
                             db ? db : net->linear_grads + (size_t)node->conv.c * node->conv.d);
        break;
    }
fail:
    return status;
}

/* The mean loss, added to the reduce buffer, and its gradient at the logits. */
static void backward_loss(struct net *net, float smoothing, float *reduce_buffer)
{
    struct device *device = net->model->device;
    int logits = net_logits_edge(net);
    device->ops->cross_entropy(device, net->n, net->model->config.classes, net->value[logits], net->labels, smoothing,
                               1 / (float)net->count, net->losses, net->loss, net->grad[logits]);
    device->ops->axpby_f32(device, 1, reduce_buffer, 1, net->loss, reduce_buffer, 1);
}

const float *net_device_loss(const struct net *net)
{
    return net->loss;
}

double net_loss(const struct net *net)
{
    float loss;
    net->model->device->ops->copy_out(net->model->device, &loss, net->loss, sizeof loss);
    return loss;
}

enum status net_backward(struct net *net, float smoothing, float *reduce_buffer)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    float *grads = reduce_buffer + net_reduce_layout(m).gradients;
    backward_loss(net, smoothing, reduce_buffer);
    TRY(graph_cache_ready(&net->graph_cache, 0));
    for (int i = m->nodes_count - 1; i >= 0; i--) {
        TRY(net_backward_node(net, i, grads));
        for (int p = node_params(&m->nodes[i]) - 1; p >= 0; p--)
            TRY(graph_cache_ready(&net->graph_cache, m->params_count - (m->nodes[i].param + p)));
    }
fail:
    return status;
}
