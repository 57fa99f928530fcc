/* net_plan.c - plans a net's operations and memory: a buffer for each edge's activations, and for their gradients.
 * A training net keeps all activations. Gradients share slots: each is held from the backward pass of its edge's last
 * consumer to that of its producer. In an inference net activations share slots likewise. */
#include <stdlib.h>

#include "layers/net_internal.h"

size_t net_edge_count(const struct net *net, int edge)
{
    const struct edge *e = &net->model->edges[edge];
    return (size_t)net->n * e->h * e->w * e->c;
}

static size_t edge_bytes(const struct net *net, int edge)
{
    bool floats = net->model->edges[edge].floats;
    return net_edge_count(net, edge) * (floats ? sizeof(float) : precision_bytes(net->model->device->precision));
}

static struct conv_shape batch_shape(const struct net *net, const struct node *node)
{
    struct conv_shape shape = node->conv;
    shape.n = net->n;
    return shape;
}

struct norm_shape net_norm_shape(const struct net *net, int i)
{
    const struct node *node = &net->model->nodes[i];
    const struct edge *e = &net->model->edges[node->out];
    return (struct norm_shape){
        .rows = (size_t)net->n * e->h * e->w, .c = e->c, .relu = node->relu, .relu_mask = net->ops[i].relu_mask
    };
}

struct pool_shape net_pool_shape(const struct net *net, const struct node *node)
{
    const struct conv_shape *s = &node->conv;
    return (struct pool_shape){ net->n, s->h, s->w, s->c, s->k, s->stride, s->pad };
}

const float *net_param(const struct net *net, const struct node *node, int i)
{
    return net->model->weights + net->model->params[node->param + i].offset;
}

struct reduce_layout net_reduce_layout(const struct model *model)
{
    size_t moments = (model->running_count + 15) / 16 * 16;
    return (struct reduce_layout){ .gradients = REDUCE_BN_STATISTICS + moments,
                                   .count = REDUCE_BN_STATISTICS + moments + model->count };
}

/* Returns the smallest free slot that fits, else the largest free one, enlarged, else a new one. */
static int acquire(struct slots *s, size_t bytes)
{
    int best = -1;
    for (int i = 0; i < s->count; i++) {
        const struct slot *slot = &s->slots[i], *so_far = &s->slots[best < 0 ? i : best];
        bool fits = slot->bytes >= bytes, so_far_fits = so_far->bytes >= bytes;
        if (!slot->busy &&
            (best < 0 || (fits && !so_far_fits) || (fits == so_far_fits && (slot->bytes < so_far->bytes) == fits)))
            best = i;
    }
    if (best < 0)
        best = s->count++;
    struct slot *slot = &s->slots[best];
    slot->bytes = slot->bytes < bytes ? bytes : slot->bytes;
    slot->busy = true;
    return best;
}

static void release(struct slots *s, int slot)
{
    s->slots[slot].busy = false;
}

static void plan_values(struct net *net)
{
    const struct model *m = net->model;
    net->edges[0].value_slot = acquire(&net->values, edge_bytes(net, 0));
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        net->edges[node->out].value_slot = acquire(&net->values, edge_bytes(net, node->out));
        if (net->training)
            continue;
        for (int e = 0; e < node->out; e++) { /* which no later node reads */
            bool needed = false;
            for (int j = i + 1; j < m->nodes_count; j++)
                needed |= m->nodes[j].in == e || m->nodes[j].add == e;
            if (!needed && net->edges[e].value_slot >= 0 && (m->nodes[i].in == e || m->nodes[i].add == e))
                release(&net->values, net->edges[e].value_slot);
        }
    }
}

/* Whether a CSC-layer writes its part of its input's gradient to a buffer of its own, and does not add it to another
 * consumer's part: the batch norm that produced the input can read both (norm_backward_of_sum). */
static bool keeps_addend(const struct net *net, const struct node *node)
{
    const struct model *m = net->model;
    bool norm_adds = false;
    for (int i = 0; i < m->nodes_count; i++)
        norm_adds |= m->nodes[i].out == node->in && m->nodes[i].kind == NODE_NORM && m->nodes[i].add >= 0;
    return norm_adds && node->kind == NODE_CSC && net->use == NET_TRAINING && m->device->ops->norm_backward_of_sum &&
           net->edges[node->in].grad_addend_slot < 0;
}

static void plan_grads(struct net *net)
{
    const struct model *m = net->model;
    int last = m->nodes[m->nodes_count - 1].out;
    net->edges[last].grad_slot = acquire(&net->grads, edge_bytes(net, last));
    for (int i = m->nodes_count - 1; i >= 0; i--) {
        const struct node *node = &m->nodes[i];
        struct op *op = &net->ops[i];
        if (node->add >= 0) {
            op->add_accumulates = net->edges[node->add].grad_slot >= 0;
            if (!op->add_accumulates)
                net->edges[node->add].grad_slot = acquire(&net->grads, edge_bytes(net, node->add));
        }
        if (node->kind == NODE_NORM) { /* overwrites its gradient: a norm is its input's only consumer */
            net->edges[node->in].grad_slot = net->edges[node->out].grad_slot;
            if (net->edges[node->out].grad_addend_slot >= 0)
                release(&net->grads, net->edges[node->out].grad_addend_slot);
            continue;
        }
        if (node->in != 0 || net->use == NET_INPUT_GRADIENT) {
            op->in_accumulates = net->edges[node->in].grad_slot >= 0;
            if (op->in_accumulates && keeps_addend(net, node)) {
                op->in_accumulates = false;
                net->edges[node->in].grad_addend_slot = acquire(&net->grads, edge_bytes(net, node->in));
            } else if (!op->in_accumulates)
                net->edges[node->in].grad_slot = acquire(&net->grads, edge_bytes(net, node->in));
        }
        release(&net->grads, net->edges[node->out].grad_slot);
    }
}

static enum status create_op(struct net *net, int i)
{
    enum status status = STATUS_OK;
    const struct node *node = &net->model->nodes[i];
    struct device *device = net->model->device;
    struct conv_shape shape = batch_shape(net, node);
    unsigned uses = CONV_FORWARD | (net->use == NET_TRAINING ? CONV_GRADIENT | CONV_INPUT_UNCHANGED : 0);
    if (net->training && (node->in || net->use == NET_INPUT_GRADIENT))
        uses |= CONV_ADJOINT | (net->ops[i].in_accumulates ? CONV_HINT_ACCUMULATE : 0);
    if (node->kind == NODE_CONV)
        TRY(device->ops->conv_create(device, &shape, device->precision, uses, &net->ops[i].conv));
    if (node->kind == NODE_CSC)
        TRY(csc_create(&net->ops[i].csc, device, &shape, &net->model->config.csc, net->training));
    if (net->ops[i].csc)
        net->csc_layers[net->csc_layers_count++] = net->ops[i].csc;
fail:
    return status;
}

/* Finds the norms that can mask the gradient of a code: those that are its only reader. */
static void find_masked_codes(struct net *net)
{
    const struct model *m = net->model;
    for (int i = 0; i < m->nodes_count; i++) {
        int users = 0, from = -1;
        net->ops[i].code_node = -1;
        for (int k = 0; k < m->nodes_count && m->nodes[i].kind == NODE_NORM; k++) {
            users += (m->nodes[k].in == m->nodes[i].in) + (m->nodes[k].add == m->nodes[i].in);
            if (m->nodes[k].kind == NODE_CSC && m->nodes[k].out == m->nodes[i].in)
                from = k;
        }
        if (users == 1 && from >= 0) {
            net->ops[i].code_node = from;
            net->ops[from].gradient_masked = true;
        }
    }
}

/* Finds the max poolings to be fused with the norm before them: those that are its only reader. */
static void find_fused_pools(struct net *net)
{
    const struct model *m = net->model;
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *norm = &m->nodes[i], *next = norm + 1;
        int users = 0;
        net->ops[i].fused_pool = -1;
        if (norm->kind != NODE_NORM || norm->add >= 0 || net->use != NET_TRAINING ||
            !m->device->ops->norm_max_forward || i + 1 == m->nodes_count || next->kind != NODE_MAX ||
            next->in != norm->out || next->conv.k > 15)
            continue;
        for (int k = 0; k < m->nodes_count; k++)
            users += (m->nodes[k].in == norm->out) + (m->nodes[k].add == norm->out);
        if (users == 1) {
            net->ops[i].fused_pool = i + 1;
            net->ops[i + 1].fused_with_norm = true;
        }
    }
}

static void assign_slots(struct slots *s, struct arena *arena)
{
    for (int i = 0; i < s->count; i++)
        s->slots[i].memory = arena_take(arena, s->slots[i].bytes);
}

static void *slot_memory(const struct slots *s, int slot)
{
    return slot >= 0 ? s->slots[slot].memory : NULL;
}

static void assign_memory(struct net *net)
{
    const struct model *m = net->model;
    size_t scratch = 0;
    assign_slots(&net->values, &net->arena);
    assign_slots(&net->grads, &net->arena);
    for (int e = 0; e < m->edges_count; e++) {
        struct edge_memory *edge = &net->edges[e];
        edge->value = slot_memory(&net->values, edge->value_slot);
        edge->grad = slot_memory(&net->grads, edge->grad_slot);
        edge->grad_addend = slot_memory(&net->grads, edge->grad_addend_slot);
    }
    csc_assign_memory_all(net->csc_layers, net->csc_layers_count, &net->arena);
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        struct op *op = &net->ops[i];
        size_t needs = op->conv ? op->conv->scratch : op->csc ? op->csc->scratch : 0;
        if (op->conv)
            m->device->ops->conv_assign_memory(op->conv, &net->arena);
        if (node->kind == NODE_NORM)
            op->saved = arena_take(&net->arena, NORM_SAVED * m->edges[node->out].c * sizeof(float));
        if (node->kind == NODE_NORM && node->add >= 0 && node->relu && net->use == NET_TRAINING &&
            m->device->ops->supports_relu_mask && m->edges[node->out].c % 8 == 0)
            op->relu_mask = arena_take(&net->arena, net_edge_count(net, node->out) / 8);
        if (node->kind == NODE_MAX)
            op->argmax = arena_take(&net->arena, net_edge_count(net, node->out) * sizeof(int32_t));
        if (node->kind == NODE_NORM && op->fused_pool >= 0) {
            op->argmax_in_window = arena_take(&net->arena, net_edge_count(net, node[1].out));
            op->argmax_value = arena_take(&net->arena, edge_bytes(net, node[1].out));
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
    net->csc_layers = calloc(nodes, sizeof *net->csc_layers);
    net->edges = calloc(edges, sizeof *net->edges);
    net->values.slots = calloc(edges, sizeof *net->values.slots);
    net->grads.slots = calloc(edges, sizeof *net->grads.slots);
    for (int e = 0; net->edges && e < edges; e++)
        net->edges[e].value_slot = net->edges[e].grad_slot = net->edges[e].grad_addend_slot = -1;
    return net->ops && net->csc_layers && net->edges && net->values.slots && net->grads.slots;
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
    find_masked_codes(net);
    find_fused_pools(net);
    plan_values(net);
    assign_memory(net);
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
    assign_memory(net);
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
    graph_cache_clear(&net->graph_cache);
    net_finish_lambda(net);
    backend->arena_finish(net->model->device, &net->arena);
    free(net->ops);
    free(net->csc_layers);
    free(net->edges);
    free(net->values.slots);
    free(net->grads.slots);
    free(net);
}
