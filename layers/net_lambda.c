/* net_lambda.c - a lambda for each image, and the gradients of image and lambda.
 * A code is homogeneous in image and lambda: every iterate of FISTA has z(s x, s lambda) = s z(x, lambda), also with
 * mu. So a layer planned for one lambda computes the code for another one, l, by scaling: z(x, l) = s z(x / s, lambda)
 * s = l / lambda The Jacobian in x is the same without scaling. By Euler's theorem lambda dz/dlambda = z - (dz/dx) x,
 * so for a gradient dz dlambda = (<dz, z> - <dx, x>) / lambda */
#include <stdlib.h>
#include <string.h>

#include "layers/net_internal.h"

#define MIN_SCALE 1e-6f /* replaces 0, for an image of lambda 0: too small to change a code */

/* The data of image i. */
static void *at_image(const struct net *net, void *data, size_t values, int i)
{
    return (char *)data + i * values * precision_bytes(net->model->device->precision);
}

static size_t values_per_image(const struct net *net, int edge)
{
    const struct edge *e = &net->model->edges[edge];
    return (size_t)e->h * e->w * e->c;
}

static struct op *csc_op(const struct net *net, int csc)
{
    for (int i = 0; i < net->model->nodes_count; i++)
        if (net->ops[i].csc && net->model->nodes[i].csc == csc)
            return &net->ops[i];
    return NULL;
}

/* Allocates the buffer for the scaled input of any CSC-layer. */
static enum status allocate_scaled_input(struct net *net)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    size_t largest = 0;
    if (net->scaled_input)
        return STATUS_OK;
    for (int i = 0; i < m->nodes_count; i++)
        if (m->nodes[i].kind == NODE_CSC && values_per_image(net, m->nodes[i].in) > largest)
            largest = values_per_image(net, m->nodes[i].in);
    largest *= net->n * precision_bytes(m->device->precision);
    arena_take(&net->scaled_input_arena, largest);
    TRY(m->device->ops->arena_allocate(m->device, &net->scaled_input_arena));
    net->scaled_input = arena_take(&net->scaled_input_arena, largest);
fail:
    return status;
}

void net_finish_lambda(struct net *net)
{
    for (int i = 0; net->ops && i < net->model->nodes_count; i++)
        free(net->ops[i].lambda);
    net->model->device->ops->arena_finish(net->model->device, &net->scaled_input_arena);
}

enum status net_set_lambda(struct net *net, int csc, const float *lambda)
{
    enum status status = STATUS_OK;
    struct op *op = csc_op(net, csc);
    float own = net->model->config.csc.lambda;
    op->scales_input = false;
    graph_cache_clear(&net->graph_cache); /* graphs hold the layers' lambda */
    for (int i = 1; lambda && i < net->n; i++)
        op->scales_input = op->scales_input || lambda[i] != lambda[0];
    op->csc->config.lambda = op->scales_input && own == 0 ? 1 : op->scales_input || !lambda ? own : lambda[0];
    if (!lambda) {
        free(op->lambda);
        op->lambda = NULL;
        return STATUS_OK;
    }
    if (!op->lambda)
        op->lambda = malloc(net->n * sizeof *op->lambda);
    if (!op->lambda)
        FAIL(STATUS_NOMEM, "out of memory for lambda by image");
    memcpy(op->lambda, lambda, net->n * sizeof *lambda);
    if (op->scales_input)
        TRY(allocate_scaled_input(net));
fail:
    return status;
}

static float scale_of(const struct op *op, int i)
{
    float scale = op->lambda[i] / op->csc->config.lambda;
    return scale > MIN_SCALE ? scale : MIN_SCALE;
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

enum status net_forward_csc(struct net *net, int i, struct csc_diagnostics *diagnostics)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct backend *ops = m->device->ops;
    struct op *op = &net->ops[i];
    void *x = net->value[node->in], *z = net->value[node->out];
    size_t in = values_per_image(net, node->in), out = values_per_image(net, node->out);
    for (int k = 0; op->scales_input && k < net->n; k++) {
        void *from = at_image(net, x, in, k);
        ops->axpby_act(m->device, 1 / scale_of(op, k), from, 0, from, at_image(net, net->scaled_input, in, k), in);
    }
    if (op->scales_input)
        x = net->scaled_input;
    use_step_scalars(net, i);
    TRY(csc_forward(op->csc, x, m->eta[node->csc], z, net->scratch));
    if (diagnostics) /* which are relative, and so do not depend on the scale */
        TRY(csc_diagnose(op->csc, x, z, &diagnostics[node->csc], net->scratch));
    for (int k = 0; op->scales_input && k < net->n; k++) {
        void *code = at_image(net, z, out, k);
        ops->axpby_act(m->device, scale_of(op, k), code, 0, code, code, out);
    }
fail:
    return status;
}

/* ---- backward ---- */

/* With y = relu(gamma (x - mean) / std + beta + add) and constant statistics, dx = gamma / std times dy where y > 0:
 * that is norm_inference of the masked dy with mean and beta 0. */
void net_backward_frozen_norm(struct net *net, int i)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct edge *e = &m->edges[node->out];
    const struct backend *ops = m->device->ops;
    struct op *op = &net->ops[i];
    struct norm_shape shape = { .rows = (size_t)net->n * e->h * e->w, .c = e->c };
    size_t count = shape.rows * e->c;
    void *dy = net->grad[node->out], *dadd = node->add >= 0 ? net->grad[node->add] : NULL;
    const float *variance = m->running + node->running + e->c;
    ops->zero(m->device, op->saved, e->c * sizeof(float));
    ops->axpby_f32(m->device, 1, variance, 0, variance, op->saved + e->c, e->c);
    if (node->relu)
        ops->mask(m->device, dy, net->value[node->out], 1, dy, count);
    if (dadd)
        ops->axpby_act(m->device, 1, dy, op->add_accumulates ? 1 : 0, op->add_accumulates ? dadd : dy, dadd, count);
    ops->norm_inference(m->device, &shape, dy, m->weights + m->params[node->param].offset, op->saved, op->saved, NULL,
                        dy);
}

/* sums[k] += sign <a_k, b_k> / lambda_k */
static void add_image_products(const struct net *net, const struct op *op, void *a, void *b, size_t values, double sign,
                               double *sums)
{
    struct device *device = net->model->device;
    for (int k = 0; k < net->count; k++)
        if (op->lambda[k] > 0)
            sums[k] += sign *
                       device->ops->dot_act(device, at_image(net, a, values, k), at_image(net, b, values, k), values) /
                       op->lambda[k];
}

static enum status backward_csc(struct net *net, int i, double *dlambda)
{
    enum status status = STATUS_OK;
    const struct node *node = &net->model->nodes[i];
    struct op *op = &net->ops[i];
    void *x = net->value[node->in], *dx = net->grad[node->in];
    size_t in = values_per_image(net, node->in), out = values_per_image(net, node->out);
    add_image_products(net, op, net->grad[node->out], net->value[node->out], out, 1, dlambda);
    if (op->in_accumulates) /* subtracts below what other consumers have put there */
        add_image_products(net, op, dx, x, in, 1, dlambda);
    TRY(net_backward_node(net, i, NULL));
    add_image_products(net, op, dx, x, in, -1, dlambda);
fail:
    return status;
}

enum status net_backward_input(struct net *net, const float *dlogits, float *dimages, double *dlambda)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    struct device *device = m->device;
    int logits = net_logits_edge(net), classes = m->config.classes;
    device->ops->zero(device, net->grad[logits], (size_t)net->n * classes * sizeof(float));
    device->ops->copy_in(device, net->grad[logits], dlogits, (size_t)net->count * classes * sizeof *dlogits);
    if (dlambda)
        memset(dlambda, 0, net->count * sizeof *dlambda);
    for (int i = m->nodes_count - 1; i >= 0; i--)
        if (dlambda && net->ops[i].lambda)
            TRY(backward_csc(net, i, dlambda));
        else
            TRY(net_backward_node(net, i, NULL));
    device->ops->download(device, dimages, net->grad[0], net->count * values_per_image(net, 0));
fail:
    return status;
}
