/* net_forward.c - uploads a batch and runs the nodes over it, from the image to the logits. */
#include "layers/net_internal.h"

#include <assert.h>

enum status net_load_node(struct net *net, int i)
{
    enum status status = STATUS_OK;
    const struct node *node = &net->model->nodes[i];
    if (net->ops[i].conv)
        TRY(net->model->device->ops->conv_load(net->ops[i].conv, net_param(net, node, 0), net->scratch));
    if (net->ops[i].csc)
        TRY(csc_load(net->ops[i].csc, net_param(net, node, 0), net->scratch));
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
    device->ops->upload(device, net->edges[0].value, images, net_image_floats(net) * count);
    upload_labels(net, labels, count);
    return STATUS_OK;
}

enum status net_upload_pixels(struct net *net, const void *raw, size_t bytes, const struct pixel_scale *scale,
                              const int32_t *labels, int count)
{
    struct device *device = net->model->device;
    device->ops->upload_pixels(device, net->edges[0].value, raw, bytes, count, net->model->edges[0].h, scale);
    upload_labels(net, labels, count);
    return STATUS_OK;
}

static void forward_norm(struct net *net, int i, float *moments)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct norm_shape shape = net_norm_shape(net, i);
    const void *add = node->add >= 0 ? net->edges[node->add].value : NULL;
    if (moments)
        m->device->ops->norm_forward(m->device, &shape, net->edges[node->in].value, net_param(net, node, 0),
                                     net_param(net, node, 1), add, net->edges[node->out].value, net->ops[i].saved,
                                     moments + node->running);
    else
        m->device->ops->norm_inference(m->device, &shape, net->edges[node->in].value, net_param(net, node, 0),
                                       net_param(net, node, 1), m->running + node->running, add,
                                       net->edges[node->out].value);
}

static void forward_norm_max(struct net *net, int i, float *moments)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct norm_shape shape = net_norm_shape(net, i);
    const struct pool_shape pool = net_pool_shape(net, node + 1);
    const struct op *op = &net->ops[i];
    m->device->ops->norm_max_forward(m->device, &shape, &pool, net->edges[node->in].value, net_param(net, node, 0),
                                     net_param(net, node, 1), net->edges[node[1].out].value, op->saved,
                                     moments + node->running, op->argmax_in_window, op->argmax_value);
}

/* Takes what follows from the step size from device memory, unless the layer has a lambda of its own. */
static void use_step_scalars(struct net *net, int i)
{
    struct model *m = net->model;
    struct csc *csc = net->ops[i].csc;
    bool own = csc->config.lambda != m->config.csc.lambda;
    csc->device_scalars = m->step_scalars && !own ? m->step_scalars + m->nodes[i].csc * STEP_SCALARS : NULL;
    if (!csc->device_scalars)
        model_fetch_step_sizes(m);
}

static enum status forward_csc(struct net *net, int i, struct csc_diagnostics *diagnostics)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    struct op *op = &net->ops[i];
    const void *x = op->scales_input ? net_scale_input(net, i) : net->edges[node->in].value;
    void *z = net->edges[node->out].value;
    use_step_scalars(net, i);
    TRY(csc_forward(op->csc, x, m->eta[node->csc], z, net->scratch));
    if (diagnostics) /* which are relative, and so do not depend on the scale */
        TRY(csc_diagnose(op->csc, x, z, &diagnostics[node->csc], net->scratch));
    if (op->scales_input)
        net_scale_code(net, i);
fail:
    return status;
}

static enum status forward_node(struct net *net, int i, float *moments, struct csc_diagnostics *diagnostics)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct backend *ops = m->device->ops;
    const void *in = net->edges[node->in].value;
    void *out = net->edges[node->out].value;
    struct epilogue plain = { .alpha = 1 };
    struct pool_shape pool = net_pool_shape(net, node);
    if (net->overlapped && (node->kind == NODE_CONV || node->kind == NODE_CSC))
        ops->event_wait(m->device, i);
    switch (node->kind) {
    case NODE_CONV: TRY(ops->conv_forward(net->ops[i].conv, in, out, &plain, net->scratch)); break;
    case NODE_CSC: TRY(forward_csc(net, i, diagnostics)); break;
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
        ops->linear_forward(m->device, net->n, node->conv.c, node->conv.d, in, net_param(net, node, 0),
                            net_param(net, node, 1), out);
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
        device->ops->copy_out(device, host, net->edges[edge].value, elements * sizeof *host);
    else
        device->ops->download(device, host, net->edges[edge].value, elements);
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
    float *out = net->edges[net_logits_edge(net)].value;
    device->ops->cross_entropy(device, net->n, classes, out, net->labels, smoothing, 1, net->losses, NULL, NULL);
    device->ops->copy_out(device, losses, net->losses, net->count * sizeof *losses);
    if (logits)
        device->ops->copy_out(device, logits, out, (size_t)net->count * classes * sizeof *logits);
    return STATUS_OK;
}
