/* net_backward.c - the loss, and the nodes from the last to the first: gradients of activations and of parameters. */
#include "layers/net_internal.h"

static void backward_norm(struct net *net, int i, float *grads)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct op *op = &net->ops[i];
    const struct param *weight = &m->params[node->param];
    const float *gamma = m->weights + weight->offset;
    float *dgamma = grads + weight->offset, *dbeta = grads + weight[1].offset;
    struct norm_shape shape = net_norm_shape(net, i);
    if (op->code_node >= 0) {
        shape.code_scale = csc_mask_factor(net->ops[op->code_node].csc, m->eta[m->nodes[op->code_node].csc]);
        shape.code_scale_device = csc_mask_factor_device(net->ops[op->code_node].csc);
    }
    if (op->fused_pool >= 0) {
        const struct pool_shape pool = net_pool_shape(net, node + 1);
        m->device->ops->norm_max_backward(m->device, &shape, &pool, net->edges[node->in].value, op->argmax_in_window,
                                          op->argmax_value, net->edges[node[1].out].grad, net->edges[node->in].grad,
                                          gamma, op->saved, dgamma, dbeta);
        return;
    }
    const void *x = net->edges[node->in].value, *y = net->edges[node->out].value,
               *addend = net->edges[node->out].grad_addend;
    void *dy = net->edges[node->out].grad, *dadd = node->add >= 0 ? net->edges[node->add].grad : NULL;
    if (addend)
        m->device->ops->norm_backward_of_sum(m->device, &shape, x, y, dy, addend, gamma, op->saved, dadd,
                                             op->add_accumulates, dgamma, dbeta);
    else
        m->device->ops->norm_backward(m->device, &shape, x, y, dy, gamma, op->saved, dadd, op->add_accumulates, dgamma,
                                      dbeta);
}

/* The same with running statistics and weights as constants. With y = relu(gamma (x - mean) / std + beta + add) and
 * constant statistics, dx = gamma / std times dy where y > 0: that is norm_inference of the masked dy with mean and
 * beta 0. */
static void backward_frozen_norm(struct net *net, int i)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct backend *ops = m->device->ops;
    struct op *op = &net->ops[i];
    struct norm_shape shape = net_norm_shape(net, i);
    size_t count = shape.rows * shape.c;
    void *dy = net->edges[node->out].grad, *dadd = node->add >= 0 ? net->edges[node->add].grad : NULL;
    const float *variance = m->running + node->running + shape.c;
    ops->zero(m->device, op->saved, shape.c * sizeof(float));
    ops->axpby_f32(m->device, 1, variance, 0, variance, op->saved + shape.c, shape.c);
    shape.relu = false;
    if (node->relu)
        ops->mask(m->device, dy, net->edges[node->out].value, 1, dy, count);
    if (dadd)
        ops->axpby_act(m->device, 1, dy, op->add_accumulates ? 1 : 0, op->add_accumulates ? dadd : dy, dadd, count);
    ops->norm_inference(m->device, &shape, dy, m->weights + m->params[node->param].offset, op->saved, op->saved, NULL,
                        dy);
}

static enum status backward_conv(struct net *net, int i, float *dw)
{
    enum status status = STATUS_OK;
    const struct node *node = &net->model->nodes[i];
    const struct backend *ops = net->model->device->ops;
    struct op *op = &net->ops[i];
    void *dx = net->edges[node->in].grad;
    struct gradient_term term = { net->edges[node->in].value, net->edges[node->out].grad, 1, NULL };
    struct epilogue e = { .alpha = 1, .beta = 1, .add = op->in_accumulates ? dx : NULL };
    if (dw)
        TRY(ops->conv_gradient(op->conv, &term, 1, dw, net->scratch));
    if (dx)
        TRY(ops->conv_adjoint(op->conv, net->edges[node->out].grad, dx, &e, net->scratch));
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
    void *dy = net->edges[node->out].grad, *dx = net->edges[node->in].grad;
    float *dw = grads && node->param >= 0 ? grads + m->params[node->param].offset : NULL;
    float *db = grads && node->kind == NODE_LINEAR ? grads + m->params[node->param + 1].offset : NULL;
    struct pool_shape pool = net_pool_shape(net, node);
    switch (node->kind) {
    case NODE_CONV: TRY(backward_conv(net, i, dw)); break;
    case NODE_CSC:
        TRY(csc_backward(op->csc, net->edges[node->in].value, m->eta[node->csc], net->edges[node->out].value, dy,
                         grads && op->gradient_masked,
                         net->edges[node->in].grad_addend ? net->edges[node->in].grad_addend : dx, op->in_accumulates,
                         dw, net->scratch));
        break;
    case NODE_NORM:
        if (grads)
            backward_norm(net, i, grads);
        else
            backward_frozen_norm(net, i);
        break;
    case NODE_MAX:
        if (!op->fused_with_norm)
            ops->max_backward(m->device, &pool, dy, op->argmax, dx, op->in_accumulates);
        break;
    case NODE_MEAN: ops->mean_backward(m->device, net->n, pool.h * pool.w, pool.c, dy, dx); break;
    case NODE_LINEAR:
        ops->linear_backward(m->device, net->n, node->conv.c, node->conv.d, net->edges[node->in].value,
                             net_param(net, node, 0), dy, dx, dw ? dw : net->linear_grads,
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
    device->ops->cross_entropy(device, net->n, net->model->config.classes, net->edges[logits].value, net->labels,
                               smoothing, 1 / (float)net->count, net->losses, net->loss, net->edges[logits].grad);
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
