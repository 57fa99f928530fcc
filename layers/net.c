/* net.c - runs a model's nodes over activations (N,h,w,c), one buffer per edge.
 * A training net keeps every activation; gradients of edges share slots, each held from its first consumer's
 * backward to its producer's. An inference net shares slots between activations likewise. */
#include "layers/net_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct net_sums net_sums(const struct model *model)
{
    size_t moments = (model->running_count + 15) / 16 * 16;
    return (struct net_sums){ .head = NET_SUMS_MOMENTS + moments, .count = NET_SUMS_MOMENTS + moments + model->count };
}

static size_t edge_count(const struct net *net, int edge)
{
    const struct edge *e = &net->model->edges[edge];
    return (size_t)net->n * e->h * e->w * e->c;
}

static size_t edge_bytes(const struct net *net, int edge)
{
    bool floats = net->model->edges[edge].floats;
    return edge_count(net, edge) * (floats ? sizeof(float) : precision_bytes(net->model->device->precision));
}

static struct conv_shape sized(const struct net *net, const struct node *node)
{
    struct conv_shape shape = node->conv;
    shape.n = net->n;
    return shape;
}

/* ---- planning ---- */

/* The smallest free slot that fits, else the largest free one grown, else a new one. */
static int acquire(struct slots *s, size_t bytes)
{
    int best = -1;
    for (int i = 0; i < s->count; i++) {
        if (s->busy[i])
            continue;
        bool fits = s->bytes[i] >= bytes, best_fits = best >= 0 && s->bytes[best] >= bytes;
        if (best < 0 || (fits && !best_fits) || (fits == best_fits && (s->bytes[i] < s->bytes[best]) == fits))
            best = i;
    }
    if (best < 0)
        best = s->count++;
    if (s->bytes[best] < bytes)
        s->bytes[best] = bytes;
    s->busy[best] = true;
    return best;
}

static void release(struct slots *s, int slot)
{
    s->busy[slot] = false;
}

static void plan_values(struct net *net)
{
    const struct model *m = net->model;
    for (int e = 0; e < m->edges_count; e++)
        net->value_slot[e] = -1;
    net->value_slot[0] = acquire(&net->values, edge_bytes(net, 0));
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        net->value_slot[node->out] = acquire(&net->values, edge_bytes(net, node->out));
        if (net->training)
            continue;
        for (int e = 0; e < node->out; e++) { /* whatever nobody reads any more */
            bool needed = false;
            for (int j = i + 1; j < m->nodes_count; j++)
                needed |= m->nodes[j].in == e || m->nodes[j].add == e;
            if (!needed && net->value_slot[e] >= 0 && (m->nodes[i].in == e || m->nodes[i].add == e))
                release(&net->values, net->value_slot[e]);
        }
    }
}

/* Whether a CSC-layer leaves its input's gradient apart from what others left there: its producer adds them up while it reads them. */
static bool leaves_apart(const struct net *net, const struct node *node)
{
    const struct model *m = net->model;
    bool apart = false;
    for (int i = 0; i < m->nodes_count; i++)
        apart |= m->nodes[i].out == node->in && m->nodes[i].kind == NODE_NORM && m->nodes[i].add >= 0;
    return apart && node->kind == NODE_CSC && net->use == NET_TRAINING && m->device->ops->norm_backward_of_two &&
           net->more_slot[node->in] < 0;
}

static void plan_grads(struct net *net)
{
    const struct model *m = net->model;
    for (int e = 0; e < m->edges_count; e++)
        net->grad_slot[e] = net->more_slot[e] = -1;
    int last = m->nodes[m->nodes_count - 1].out;
    net->grad_slot[last] = acquire(&net->grads, edge_bytes(net, last));
    for (int i = m->nodes_count - 1; i >= 0; i--) {
        const struct node *node = &m->nodes[i];
        struct op *op = &net->ops[i];
        if (node->add >= 0) {
            op->add_accumulates = net->grad_slot[node->add] >= 0;
            if (!op->add_accumulates)
                net->grad_slot[node->add] = acquire(&net->grads, edge_bytes(net, node->add));
        }
        if (node->kind == NODE_NORM) { /* in place: a norm is its input's only consumer */
            net->grad_slot[node->in] = net->grad_slot[node->out];
            if (net->more_slot[node->out] >= 0)
                release(&net->grads, net->more_slot[node->out]);
            continue;
        }
        if (node->in != 0 || net->use == NET_INPUT_GRADIENT) {
            op->in_accumulates = net->grad_slot[node->in] >= 0;
            if (op->in_accumulates && leaves_apart(net, node)) {
                op->in_accumulates = false;
                net->more_slot[node->in] = acquire(&net->grads, edge_bytes(net, node->in));
            } else if (!op->in_accumulates)
                net->grad_slot[node->in] = acquire(&net->grads, edge_bytes(net, node->in));
        }
        release(&net->grads, net->grad_slot[node->out]);
    }
}

static enum status create_op(struct net *net, int i)
{
    enum status status = STATUS_OK;
    const struct node *node = &net->model->nodes[i];
    struct device *device = net->model->device;
    struct conv_shape shape = sized(net, node);
    unsigned uses = CONV_FORWARD | (net->use == NET_TRAINING ? CONV_GRADIENT | CONV_KEEPING : 0);
    if (net->training && (node->in || net->use == NET_INPUT_GRADIENT))
        uses |= CONV_ADJOINT | (net->ops[i].in_accumulates ? CONV_ADDING : 0);
    if (node->kind == NODE_CONV)
        TRY(device->ops->conv_create(device, &shape, device->precision, uses, &net->ops[i].conv));
    if (node->kind == NODE_CSC)
        TRY(csc_create(&net->ops[i].csc, device, &shape, &net->model->config.csc, net->training));
    if (net->ops[i].csc)
        net->layers[net->layers_count++] = net->ops[i].csc;
fail:
    return status;
}

/* Which norms can mask the gradient of a code: those that nobody shares it with. */
static void find_codes(struct net *net)
{
    const struct model *m = net->model;
    for (int i = 0; i < m->nodes_count; i++) {
        int users = 0, from = -1;
        net->ops[i].code = -1;
        for (int k = 0; k < m->nodes_count && m->nodes[i].kind == NODE_NORM; k++) {
            users += (m->nodes[k].in == m->nodes[i].in) + (m->nodes[k].add == m->nodes[i].in);
            if (m->nodes[k].kind == NODE_CSC && m->nodes[k].out == m->nodes[i].in)
                from = k;
        }
        if (users == 1 && from >= 0) {
            net->ops[i].code = from;
            net->ops[from].masked = true;
        }
    }
}

/* Which norms do the max pooling behind them as well: those that nobody else reads. */
static void find_pooled(struct net *net)
{
    const struct model *m = net->model;
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *norm = &m->nodes[i], *next = norm + 1;
        int users = 0;
        net->ops[i].pooled = -1;
        if (norm->kind != NODE_NORM || norm->add >= 0 || net->use != NET_TRAINING || !m->device->ops->norm_max_forward ||
            i + 1 == m->nodes_count || next->kind != NODE_MAX || next->in != norm->out || next->conv.k > 15)
            continue;
        for (int k = 0; k < m->nodes_count; k++)
            users += (m->nodes[k].in == norm->out) + (m->nodes[k].add == norm->out);
        if (users == 1) {
            net->ops[i].pooled = i + 1;
            net->ops[i + 1].by_norm = true;
        }
    }
}

/* slot_of (edges) -> pointers; `others`, where not NULL, share the slots. */
static void place_slots(struct slots *slots, int edges, struct arena *arena, const int *slot_of, void **pointers,
                        const int *others, void **other_pointers)
{
    for (int s = 0; s < slots->count; s++) {
        void *memory = arena_take(arena, slots->bytes[s]);
        for (int e = 0; e < edges; e++) {
            if (slot_of[e] == s)
                pointers[e] = memory;
            if (others && others[e] == s)
                other_pointers[e] = memory;
        }
    }
}

static void place(struct net *net)
{
    const struct model *m = net->model;
    size_t scratch = 0;
    place_slots(&net->values, m->edges_count, &net->arena, net->value_slot, net->value, NULL, NULL);
    place_slots(&net->grads, m->edges_count, &net->arena, net->grad_slot, net->grad, net->more_slot, net->more);
    csc_place_all(net->layers, net->layers_count, &net->arena);
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        struct op *op = &net->ops[i];
        size_t needs = op->conv ? op->conv->scratch : op->csc ? op->csc->scratch : 0;
        if (op->conv)
            m->device->ops->conv_place(op->conv, &net->arena);
        if (node->kind == NODE_NORM)
            op->saved = arena_take(&net->arena, NORM_SAVED * m->edges[node->out].c * sizeof(float));
        if (node->kind == NODE_MAX)
            op->winner = arena_take(&net->arena, edge_count(net, node->out) * sizeof(int32_t));
        if (node->kind == NODE_NORM && op->pooled >= 0) {
            op->place = arena_take(&net->arena, edge_count(net, node[1].out));
            op->won = arena_take(&net->arena, edge_bytes(net, node[1].out));
        }
        scratch = needs > scratch ? needs : scratch;
    }
    net->labels = arena_take(&net->arena, net->n * sizeof *net->labels);
    net->losses = arena_take(&net->arena, net->n * sizeof *net->losses);
    net->loss = arena_take(&net->arena, sizeof *net->loss);
    if (net->use == NET_INPUT_GRADIENT) {
        const struct conv_shape *linear = &m->nodes[m->nodes_count - 1].conv;
        net->linear_grads = arena_take(&net->arena, ((size_t)linear->c + 1) * linear->d * sizeof(float));
    }
    net->scratch = arena_take(&net->arena, scratch);
}

static bool allocate_tables(struct net *net)
{
    int nodes = net->model->nodes_count, edges = net->model->edges_count;
    net->ops = calloc(nodes, sizeof *net->ops);
    net->layers = calloc(nodes, sizeof *net->layers);
    net->value = calloc(edges, sizeof *net->value);
    net->grad = calloc(edges, sizeof *net->grad);
    net->value_slot = calloc(edges, sizeof *net->value_slot);
    net->grad_slot = calloc(edges, sizeof *net->grad_slot);
    net->more = calloc(edges, sizeof *net->more);
    net->more_slot = calloc(edges, sizeof *net->more_slot);
    struct slots *both[] = { &net->values, &net->grads };
    for (int i = 0; i < 2; i++) {
        both[i]->bytes = calloc(edges, sizeof *both[i]->bytes);
        both[i]->busy = calloc(edges, sizeof *both[i]->busy);
    }
    return net->ops && net->layers && net->value && net->grad && net->value_slot && net->grad_slot && net->more &&
           net->more_slot &&
           net->values.bytes && net->values.busy && net->grads.bytes && net->grads.busy;
}

enum status net_create(struct net **out, struct model *model, int n, enum net_use use)
{
    enum status status = STATUS_OK;
    struct net *net = calloc(1, sizeof *net);
    if (!net)
        FAIL(STATUS_NOMEM, "out of memory for the network");
    *net = (struct net){ .model = model, .n = n, .use = use, .training = use != NET_INFERENCE };
    if (!allocate_tables(net))
        FAIL(STATUS_NOMEM, "out of memory for the network");
    if (net->training)
        plan_grads(net);
    for (int i = 0; i < model->nodes_count; i++)
        TRY(create_op(net, i));
    find_codes(net);
    find_pooled(net);
    plan_values(net);
    place(net);
    net->bytes = net->arena.used;
    *out = net;
    net = NULL;
fail:
    net_destroy(net);
    return status;
}

enum status net_allocate(struct net *net)
{
    enum status status = STATUS_OK;
    TRY(net->model->device->ops->arena_allocate(net->model->device, &net->arena));
    place(net);
fail:
    return status;
}

size_t net_bytes(const struct net *net)
{
    return net->bytes;
}

void net_destroy(struct net *net)
{
    if (!net)
        return;
    const struct backend *backend = net->model->device->ops;
    for (int i = 0; net->ops && i < net->model->nodes_count; i++) {
        if (net->ops[i].conv)
            backend->conv_destroy(net->ops[i].conv);
        csc_destroy(net->ops[i].csc);
    }
    tape_forget(&net->tape);
    net_finish_lambda(net);
    backend->arena_finish(net->model->device, &net->arena);
    free(net->ops);
    free(net->layers);
    free(net->value);
    free(net->grad);
    free(net->value_slot);
    free(net->grad_slot);
    free(net->more);
    free(net->more_slot);
    free(net->values.bytes);
    free(net->values.busy);
    free(net->grads.bytes);
    free(net->grads.busy);
    free(net);
}

/* ---- running ---- */

static const float *param_of(const struct net *net, const struct node *node, int i)
{
    return net->model->weights + net->model->params[node->param + i].offset;
}

static enum status load_weights(struct net *net)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    if (net->version == m->version)
        return STATUS_OK;
    for (int i = 0; i < m->nodes_count; i++) {
        if (net->ops[i].conv)
            TRY(m->device->ops->conv_load(net->ops[i].conv, param_of(net, &m->nodes[i], 0), net->scratch));
        if (net->ops[i].csc)
            TRY(csc_load(net->ops[i].csc, param_of(net, &m->nodes[i], 0), net->scratch));
    }
    net->version = m->version;
fail:
    return status;
}

size_t net_image_floats(const struct net *net)
{
    return edge_count(net, 0) / net->n;
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

enum status net_upload_raw(struct net *net, const void *raw, size_t bytes, const struct pixel_scale *scale, const int32_t *labels,
                           int count)
{
    struct device *device = net->model->device;
    device->ops->upload_pixels(device, net->value[0], raw, bytes, count, net->model->edges[0].h, scale);
    upload_labels(net, labels, count);
    return STATUS_OK;
}

static struct pool_shape pool_of(const struct net *net, const struct node *node)
{
    return (struct pool_shape){ .n = net->n, .h = node->conv.h, .w = node->conv.w, .c = node->conv.c,
                                .k = node->conv.k, .stride = node->conv.stride, .pad = node->conv.pad };
}

static void forward_norm(struct net *net, int i, float *moments)
{
    const struct model *m = net->model;
    const struct node *node = &m->nodes[i];
    const struct edge *e = &m->edges[node->out];
    struct norm_shape shape = { .rows = (size_t)net->n * e->h * e->w, .c = e->c, .relu = node->relu };
    const void *add = node->add >= 0 ? net->value[node->add] : NULL;
    if (moments)
        m->device->ops->norm_forward(m->device, &shape, net->value[node->in], param_of(net, node, 0),
                                     param_of(net, node, 1), add, net->value[node->out], net->ops[i].saved,
                                     moments + node->running);
    else
        m->device->ops->norm_inference(m->device, &shape, net->value[node->in], param_of(net, node, 0),
                                       param_of(net, node, 1), m->running + node->running, add,
                                       net->value[node->out]);
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
                                     param_of(net, node, 1), net->value[node[1].out], op->saved, moments + node->running,
                                     op->place, op->won);
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
    switch (node->kind) {
    case NODE_CONV: TRY(ops->conv_forward(net->ops[i].conv, in, out, &plain, net->scratch)); break;
    case NODE_CSC: TRY(net_forward_csc(net, i, diagnostics)); break;
    case NODE_NORM:
        if (moments && net->ops[i].pooled >= 0)
            forward_norm_max(net, i, moments);
        else
            forward_norm(net, i, moments);
        break;
    case NODE_MAX:
        if (!moments || !net->ops[i].by_norm)
            ops->max_forward(m->device, &pool, in, out, net->ops[i].winner);
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
    TRY(load_weights(net));
    for (int i = 0; i < m->nodes_count; i++)
        TRY(forward_node(net, i, NULL, diagnostics));
fail:
    return status;
}

void net_value(const struct net *net, int edge, int count, float *host)
{
    struct device *device = net->model->device;
    size_t elements = edge_count(net, edge) / net->n * count;
    assert(net->training && count <= net->n);
    if (net->model->edges[edge].floats)
        device->ops->copy_out(device, host, net->value[edge], elements * sizeof *host);
    else
        device->ops->download(device, host, net->value[edge], elements);
}

enum status net_forward(struct net *net, float *sums)
{
    enum status status = STATUS_OK;
    TRY(load_weights(net));
    for (int i = 0; i < net->model->nodes_count; i++)
        TRY(forward_node(net, i, sums + NET_SUMS_MOMENTS, NULL));
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
    struct norm_shape shape = { .rows = (size_t)net->n * e->h * e->w, .c = e->c, .relu = node->relu };
    if (op->code >= 0) {
        shape.code_nu = csc_mask_factor(net->ops[op->code].csc, m->eta[m->nodes[op->code].csc]);
        shape.code_number = csc_mask_number(net->ops[op->code].csc);
    }
    if (op->pooled >= 0) {
        const struct pool_shape pool = pool_of(net, node + 1);
        m->device->ops->norm_max_backward(m->device, &shape, &pool, net->value[node->in], op->place, op->won,
                                          net->grad[node[1].out], net->grad[node->in], gamma, op->saved, dgamma, dbeta);
        return;
    }
    const void *x = net->value[node->in], *y = net->value[node->out], *more = net->more[node->out];
    void *dy = net->grad[node->out], *dadd = node->add >= 0 ? net->grad[node->add] : NULL;
    if (more)
        m->device->ops->norm_backward_of_two(m->device, &shape, x, y, dy, more, gamma, op->saved, dadd, op->add_accumulates, dgamma,
                                             dbeta);
    else
        m->device->ops->norm_backward(m->device, &shape, x, y, dy, gamma, op->saved, dadd, op->add_accumulates, dgamma, dbeta);
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
        TRY(csc_backward(op->csc, net->value[node->in], m->eta[node->csc], net->value[node->out], dy, grads && op->masked,
                         net->more[node->in] ? net->more[node->in] : dx, op->in_accumulates, dw, net->scratch));
        break;
    case NODE_NORM:
        if (grads)
            backward_norm(net, i, grads);
        else
            net_backward_frozen_norm(net, i);
        break;
    case NODE_MAX:
        if (!op->by_norm)
            ops->max_backward(m->device, &pool, dy, op->winner, dx, op->in_accumulates);
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

/* Mean loss and its gradient at the logits; the loss joins the head of sums. */
static void backward_loss(struct net *net, float smoothing, float *sums)
{
    struct device *device = net->model->device;
    int logits = net_logits_edge(net);
    device->ops->cross_entropy(device, net->n, net->model->config.classes, net->value[logits], net->labels, smoothing,
                               1 / (float)net->count, net->losses, net->loss, net->grad[logits]);
    device->ops->lincomb(device, 1, sums, 1, net->loss, sums, 1);
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

enum status net_backward(struct net *net, float smoothing, float *sums, net_ready *ready, void *context)
{
    enum status status = STATUS_OK;
    const struct model *m = net->model;
    float *grads = sums + net_sums(m).head;
    backward_loss(net, smoothing, sums);
    if (ready)
        TRY(ready(context, 0));
    for (int i = m->nodes_count - 1; i >= 0; i--) {
        TRY(net_backward_node(net, i, grads));
        for (int p = node_params(&m->nodes[i]) - 1; ready && p >= 0; p--)
            TRY(ready(context, m->params_count - (m->nodes[i].param + p)));
    }
fail:
    return status;
}
