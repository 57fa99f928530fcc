/* explain.c - inverts a network node by node, from its output edge to its input edge. Two buffers, as large as
 * the largest edge, hold the estimate of the current edge (n,h,w,c). */
#include "trainer/viz/explain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/device.h"

#define SWITCHED_OFF 1e-3f /* a channel with a smaller |gamma| is switched off */

struct adjoint {
    struct conv *conv;
    struct arena arena;
    void *scratch;
    float *weights; /* a copy of the model's, which the convolution may use in place */
};

struct explain {
    struct net *net;
    const struct model *model;
    struct device *device; /* the CPU */
    int n;
    struct adjoint *adjoints;           /* (nodes), created when needed */
    float *estimate, *next;             /* (n, largest edge) */
    float *activation, *reconstruction; /* (n, largest edge), from the forward pass */
};

static size_t image_floats(const struct explain *e, int edge)
{
    const struct edge *shape = &e->model->edges[edge];
    return (size_t)shape->h * shape->w * shape->c;
}

enum status explain_create(struct explain **out, struct net *net, const struct model *model, int n, int threads)
{
    enum status status = STATUS_OK;
    size_t largest = 0;
    struct explain *e = calloc(1, sizeof *e);
    if (!e)
        FAIL(STATUS_NOMEM, "out of memory for reconstructions");
    *e = (struct explain){ .net = net, .model = model, .n = n };
    for (int i = 0; i < model->edges_count; i++)
        largest = image_floats(e, i) > largest ? image_floats(e, i) : largest;
    TRY(device_open(&e->device, "cpu", PRECISION_FP32, threads));
    e->adjoints = calloc((size_t)model->nodes_count, sizeof *e->adjoints);
    float **buffers[] = { &e->estimate, &e->next, &e->activation, &e->reconstruction };
    for (int i = 0; i < 4; i++)
        if (!(*buffers[i] = malloc(largest * (size_t)n * sizeof(float))))
            FAIL(STATUS_NOMEM, "out of memory for reconstructions of %d images", n);
    if (!e->adjoints)
        FAIL(STATUS_NOMEM, "out of memory for reconstructions");
    *out = e;
    e = NULL;
fail:
    explain_destroy(e);
    return status;
}

void explain_destroy(struct explain *e)
{
    if (!e)
        return;
    for (int i = 0; e->adjoints && i < e->model->nodes_count; i++) {
        struct adjoint *adjoint = &e->adjoints[i];
        if (adjoint->conv)
            e->device->ops->conv_destroy(adjoint->conv);
        if (adjoint->arena.memory)
            e->device->ops->arena_finish(e->device, &adjoint->arena);
        free(adjoint->weights);
    }
    device_close(e->device);
    free(e->adjoints);
    free(e->estimate);
    free(e->next);
    free(e->activation);
    free(e->reconstruction);
    free(e);
}

int explain_node(const struct model *model, const char *name)
{
    for (int i = 0; i < model->nodes_count; i++) {
        const struct node *node = &model->nodes[i];
        if ((node->kind == NODE_CONV || node->kind == NODE_CSC) && strcmp(node->name, name) == 0)
            return i;
    }
    return -1;
}

/* The last convolution of stage '1' .. '4', not counting shortcuts; -1 if there is none. */
static int stage_end(const struct model *model, char stage)
{
    int last = -1;
    for (int i = 0; i < model->nodes_count; i++) {
        const struct node *node = &model->nodes[i];
        bool conv = node->kind == NODE_CONV || node->kind == NODE_CSC;
        if (conv && strncmp(node->name, "layer", 5) == 0 && node->name[5] == stage && !strstr(node->name, "shortcut"))
            last = i;
    }
    return last;
}

int explain_default_nodes(const struct model *model, int nodes[EXPLAIN_MAX_DEFAULT_NODES])
{
    int count = 1;
    nodes[0] = 0;
    while (model->nodes[nodes[0]].in != 0)
        nodes[0]++;
    for (char stage = '1'; stage <= '4'; stage++)
        if (stage_end(model, stage) >= 0)
            nodes[count++] = stage_end(model, stage);
    return count;
}

/* ---- undoing ---- */

/* Prepares the adjoint of node i's convolution with the current weights. */
static enum status load_adjoint(struct explain *e, int i, struct adjoint **out)
{
    enum status status = STATUS_OK;
    const struct model *m = e->model;
    const struct node *node = &m->nodes[i];
    const struct param *w = &m->params[node->param];
    const struct backend *ops = e->device->ops;
    struct adjoint *adjoint = &e->adjoints[i];
    struct conv_shape shape = node->conv;
    shape.n = e->n;
    if (!adjoint->conv) {
        adjoint->weights = malloc(w->count * sizeof *adjoint->weights);
        if (!adjoint->weights)
            FAIL(STATUS_NOMEM, "out of memory for reconstructions");
        TRY(ops->conv_create(e->device, &shape, PRECISION_FP32, CONV_ADJOINT, &adjoint->conv));
        ops->conv_assign_memory(adjoint->conv, &adjoint->arena);
        arena_take(&adjoint->arena, adjoint->conv->scratch);
        TRY(ops->arena_allocate(e->device, &adjoint->arena));
        ops->conv_assign_memory(adjoint->conv, &adjoint->arena);
        adjoint->scratch = arena_take(&adjoint->arena, adjoint->conv->scratch);
    }
    m->device->ops->copy_out(m->device, adjoint->weights, m->weights + w->offset, w->count * sizeof *adjoint->weights);
    TRY(ops->conv_load(adjoint->conv, adjoint->weights, adjoint->scratch));
    *out = adjoint;
fail:
    return status;
}

static void swap(struct explain *e)
{
    float *next = e->estimate;
    e->estimate = e->next;
    e->next = next;
}

/* Scales each image of the estimate by the factor with which its reconstruction fits the activation best. */
static void scale_to_fit(struct explain *e, int edge)
{
    size_t count = image_floats(e, edge);
    for (int i = 0; i < e->n; i++) {
        const float *x = e->activation + i * count, *y = e->reconstruction + i * count;
        double xy = e->device->ops->dot_f32(e->device, x, y, count),
               yy = e->device->ops->dot_f32(e->device, y, y, count);
        float gain = yy > 0 ? (float)(xy / yy) : 0;
        for (size_t j = 0; j < count; j++)
            e->estimate[i * count + j] *= gain;
    }
}

static enum status undo_conv(struct explain *e, int i, bool scaled)
{
    enum status status = STATUS_OK;
    const struct node *node = &e->model->nodes[i];
    struct epilogue plain = { .alpha = 1 };
    struct adjoint *adjoint;
    TRY(load_adjoint(e, i, &adjoint));
    TRY(e->device->ops->conv_adjoint(adjoint->conv, e->estimate, e->next, &plain, adjoint->scratch));
    swap(e);
    if (!scaled)
        return status;
    net_get_activations(e->net, node->out, e->n, e->activation);
    TRY(e->device->ops->conv_adjoint(adjoint->conv, e->activation, e->reconstruction, &plain, adjoint->scratch));
    net_get_activations(e->net, node->in, e->n, e->activation);
    scale_to_fit(e, node->in);
fail:
    return status;
}

static enum status undo_norm(struct explain *e, const struct node *node)
{
    enum status status = STATUS_OK;
    const struct model *m = e->model;
    const struct backend *ops = m->device->ops;
    int c = m->edges[node->out].c;
    size_t rows = image_floats(e, node->out) / c * e->n;
    float *channels = malloc(4 * (size_t)c * sizeof *channels);
    if (!channels)
        FAIL(STATUS_NOMEM, "out of memory for reconstructions");
    float *gamma = channels, *beta = channels + c, *running = channels + 2 * c;
    ops->copy_out(m->device, gamma, m->weights + m->params[node->param].offset, c * sizeof *gamma);
    ops->copy_out(m->device, beta, m->weights + m->params[node->param + 1].offset, c * sizeof *beta);
    ops->copy_out(m->device, running, m->running + node->running, 2 * c * sizeof *running);
    if (node->add >= 0)
        net_get_activations(e->net, node->add, e->n, e->activation);
    for (size_t r = 0; r < rows; r++)
        for (int j = 0; j < c; j++) {
            float *v = &e->estimate[r * c + j], add = node->add >= 0 ? e->activation[r * c + j] : 0;
            bool switched_off = fabsf(gamma[j]) < SWITCHED_OFF;
            *v = switched_off
                     ? running[j]
                     : (*v - add - beta[j]) * sqrtf(running[c + j] + (float)NORM_EPSILON) / gamma[j] + running[j];
        }
fail:
    free(channels);
    return status;
}

static void undo_max(struct explain *e, const struct node *node)
{
    const struct edge in = e->model->edges[node->in], out = e->model->edges[node->out];
    int k = node->conv.k, stride = node->conv.stride, pad = node->conv.pad;
    for (size_t i = 0; i < image_floats(e, node->in) * e->n; i++)
        e->next[i] = INFINITY;
    for (int i = 0; i < e->n; i++)
        for (int p = 0; p < out.h * out.w; p++)
            for (int tap = 0; tap < k * k; tap++) {
                int y = p / out.w * stride - pad + tap / k, x = p % out.w * stride - pad + tap % k;
                if (y < 0 || x < 0 || y >= in.h || x >= in.w)
                    continue;
                const float *from = e->estimate + ((size_t)i * out.h * out.w + p) * out.c;
                float *to = e->next + (((size_t)i * in.h + y) * in.w + x) * in.c;
                for (int c = 0; c < in.c; c++)
                    to[c] = fminf(to[c], from[c]);
            }
    for (size_t i = 0; i < image_floats(e, node->in) * e->n; i++)
        if (isinf(e->next[i])) /* no window contains it */
            e->next[i] = 0;
    swap(e);
}

static int producer_of(const struct model *m, int edge)
{
    int i = 0;
    while (m->nodes[i].out != edge)
        i++;
    return i;
}

enum status explain_pixels(struct explain *e, int node, float *pixels)
{
    enum status status = STATUS_OK;
    const struct model *m = e->model;
    net_get_activations(e->net, m->nodes[node].out, e->n, e->estimate);
    for (int i = node;; i = producer_of(m, m->nodes[i].in)) {
        const struct node *at = &m->nodes[i];
        if (at->kind == NODE_NORM)
            TRY(undo_norm(e, at));
        else if (at->kind == NODE_MAX)
            undo_max(e, at);
        else
            TRY(undo_conv(e, i, true));
        if (at->in == 0)
            break;
    }
    memcpy(pixels, e->estimate, image_floats(e, 0) * e->n * sizeof *pixels);
fail:
    return status;
}

enum status explain_unscaled(struct explain *e, int node, float *pixels)
{
    enum status status = STATUS_OK;
    const struct node *at = &e->model->nodes[node];
    if (at->in != 0)
        FAIL(STATUS_BUG, "%s does not see the image", at->name);
    net_get_activations(e->net, at->out, e->n, e->estimate);
    TRY(undo_conv(e, node, false));
    memcpy(pixels, e->estimate, image_floats(e, 0) * e->n * sizeof *pixels);
fail:
    return status;
}
