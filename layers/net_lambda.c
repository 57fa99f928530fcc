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
    return net_edge_count(net, edge) / net->n;
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

const void *net_scale_input(struct net *net, int i)
{
    const struct node *node = &net->model->nodes[i];
    size_t values = values_per_image(net, node->in);
    for (int k = 0; k < net->n; k++) {
        void *from = at_image(net, net->edges[node->in].value, values, k),
             *to = at_image(net, net->scaled_input, values, k);
        net->model->device->ops->axpby_act(net->model->device, 1 / scale_of(&net->ops[i], k), from, 0, from, to,
                                           values);
    }
    return net->scaled_input;
}

void net_scale_code(struct net *net, int i)
{
    const struct node *node = &net->model->nodes[i];
    size_t values = values_per_image(net, node->out);
    for (int k = 0; k < net->n; k++) {
        void *code = at_image(net, net->edges[node->out].value, values, k);
        net->model->device->ops->axpby_act(net->model->device, scale_of(&net->ops[i], k), code, 0, code, code, values);
    }
}

/* ---- backward ---- */

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
    void *x = net->edges[node->in].value, *dx = net->edges[node->in].grad;
    size_t in = values_per_image(net, node->in), out = values_per_image(net, node->out);
    add_image_products(net, op, net->edges[node->out].grad, net->edges[node->out].value, out, 1, dlambda);
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
    device->ops->zero(device, net->edges[logits].grad, (size_t)net->n * classes * sizeof(float));
    device->ops->copy_in(device, net->edges[logits].grad, dlogits, (size_t)net->count * classes * sizeof *dlogits);
    if (dlambda)
        memset(dlambda, 0, net->count * sizeof *dlambda);
    for (int i = m->nodes_count - 1; i >= 0; i--)
        if (dlambda && net->ops[i].lambda)
            TRY(backward_csc(net, i, dlambda));
        else
            TRY(net_backward_node(net, i, NULL));
    device->ops->download(device, dimages, net->edges[0].grad, net->count * net_image_floats(net));
fail:
    return status;
}
