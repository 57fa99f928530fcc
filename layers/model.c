/* model.c - a network's memory, parameters, running statistics and step sizes. architectures.c builds the network. */
#include "base/integer.h"
#include "layers/model_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

_Static_assert(MODEL_MAX_NODES <= DEVICE_EVENTS, "net_train.c records an event for each node");

static enum status create_power(struct model *m)
{
    enum status status = STATUS_OK;
    m->eta = calloc(m->csc_count + 1, sizeof *m->eta);
    if (!m->eta)
        FAIL(STATUS_NOMEM, "out of memory for the network");
    for (int i = 0; i < m->csc_count; i++)
        m->eta[i] = m->config.step_size;
    if (m->config.step_size > 0)
        return STATUS_OK;
    m->power = calloc(m->csc_count + 1, sizeof *m->power);
    if (!m->power)
        FAIL(STATUS_NOMEM, "out of memory for the network");
    for (int i = 0; i < m->nodes_count; i++)
        if (m->nodes[i].kind == NODE_CSC)
            TRY(csc_power_create(&m->power[m->nodes[i].csc], m->device, &m->nodes[i].conv));
fail:
    return status;
}

static void assign_memory(struct model *m)
{
    size_t scratch = 0, largest = 0;
    m->weights = arena_take(&m->arena, m->count * sizeof *m->weights);
    m->running = arena_take(&m->arena, m->running_count * sizeof *m->running);
    m->lambda_max = arena_take(&m->arena, m->csc_count * sizeof *m->lambda_max);
    m->step_scalars = m->device->ops->step_scalars
                          ? arena_take(&m->arena, m->csc_count * STEP_SCALARS * sizeof *m->step_scalars)
                          : NULL;
    for (int i = 0; m->power && i < m->csc_count; i++) {
        csc_power_assign_memory(m->power[i], &m->arena, m->lambda_max ? m->lambda_max + i : NULL);
        scratch = csc_power_scratch(m->power[i]) > scratch ? csc_power_scratch(m->power[i]) : scratch;
        largest = conv_in_count(&m->power[i]->shape) > largest ? conv_in_count(&m->power[i]->shape) : largest;
    }
    m->power_vector = arena_take(&m->arena, largest * sizeof *m->power_vector);
    m->stream_scratch = round_up(scratch, ARENA_ALIGN);
    m->scratch = arena_take(&m->arena, m->stream_scratch * (m->device->ops->streams_begin ? DEVICE_STREAMS : 1));
}

enum status model_new(struct model **out, struct device *device, const struct model_config *config)
{
    enum status status = STATUS_OK;
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        FAIL(STATUS_NOMEM, "out of memory for the network");
    m->device = m->graph_cache.device = device;
    m->config = *config;
    m->nodes = calloc(MODEL_MAX_NODES, sizeof *m->nodes);
    m->edges = calloc(MODEL_MAX_NODES + 1, sizeof *m->edges);
    m->params = calloc(2 * MODEL_MAX_NODES, sizeof *m->params);
    if (!m->nodes || !m->edges || !m->params)
        FAIL(STATUS_NOMEM, "out of memory for the network");
    *out = m;
    m = NULL;
fail:
    model_destroy(m);
    return status;
}

enum status model_plan(struct model *m)
{
    enum status status = STATUS_OK;
    TRY(create_power(m));
    assign_memory(m);
fail:
    return status;
}

enum status model_allocate(struct model *m)
{
    enum status status = STATUS_OK;
    TRY(m->device->ops->arena_allocate(m->device, &m->arena));
    assign_memory(m);
    model_step_sizes_changed(m);
fail:
    return status;
}

void model_destroy(struct model *m)
{
    if (!m)
        return;
    graph_cache_clear(&m->graph_cache);
    for (int i = 0; m->power && i < m->csc_count; i++)
        csc_power_destroy(m->power[i]);
    m->device->ops->arena_finish(m->device, &m->arena);
    free(m->power);
    free(m->eta);
    free(m->nodes);
    free(m->edges);
    free(m->params);
    free(m);
}

/* ---- parameters ---- */

int node_params(const struct node *node)
{
    return node->param < 0 ? 0 : node->kind == NODE_CONV || node->kind == NODE_CSC ? 1 : 2;
}

/* Between (D,C,k,k) in files and (D,k,k,C) in memory. */
static void transpose(const struct param *p, const float *from, float *to, bool to_file)
{
    int d = p->shape[0], c = p->shape[1], taps = p->shape[2] * p->shape[3];
    for (int i = 0; i < d; i++)
        for (int j = 0; j < c; j++)
            for (int t = 0; t < taps; t++) {
                size_t file = ((size_t)i * c + j) * taps + t, memory = ((size_t)i * taps + t) * c + j;
                if (to_file)
                    to[file] = from[memory];
                else
                    to[memory] = from[file];
            }
}

enum status model_get(const struct model *m, const float *flat, int param, float *host)
{
    enum status status = STATUS_OK;
    const struct param *p = &m->params[param];
    float *copy = malloc(p->count * sizeof *copy);
    if (!copy)
        FAIL(STATUS_NOMEM, "%s: out of memory", p->name);
    m->device->ops->copy_out(m->device, copy, flat + p->offset, p->count * sizeof *copy);
    if (p->dims == 4)
        transpose(p, copy, host, true);
    else
        memcpy(host, copy, p->count * sizeof *copy);
fail:
    free(copy);
    return status;
}

enum status model_set(struct model *m, float *flat, int param, const float *host)
{
    enum status status = STATUS_OK;
    const struct param *p = &m->params[param];
    float *copy = malloc(p->count * sizeof *copy);
    if (!copy)
        FAIL(STATUS_NOMEM, "%s: out of memory", p->name);
    if (p->dims == 4)
        transpose(p, host, copy, false);
    else
        memcpy(copy, host, p->count * sizeof *copy);
    m->device->ops->copy_in(m->device, flat + p->offset, copy, p->count * sizeof *copy);
fail:
    free(copy);
    return status;
}

void model_weights_changed(struct model *m)
{
    m->version++;
}

void model_normalize(struct model *m)
{
    for (int i = 0; i < m->params_count; i++) {
        const struct param *p = &m->params[i];
        if (p->kind == PARAM_DICTIONARY)
            m->device->ops->normalize_rows(m->device, m->weights + p->offset, p->shape[0], p->count / p->shape[0]);
    }
    m->version++;
}

static void draw(const struct param *p, uint64_t seed, int index, float norm_weight, float *host)
{
    struct philox stream;
    philox_init(&stream, seed, PHILOX_DOMAIN_INIT, (uint64_t)index);
    double fan_in = p->dims == 4 ? (double)p->shape[1] * p->shape[2] * p->shape[3] : p->shape[1];
    for (size_t i = 0; i < p->count; i++)
        switch (p->kind) {
        case PARAM_DICTIONARY: host[i] = (float)(philox_normal(&stream) * sqrt(2 / fan_in)); break;
        case PARAM_NORM_WEIGHT: host[i] = norm_weight; break;
        case PARAM_NORM_BIAS: host[i] = 0; break;
        case PARAM_CONV:
        case PARAM_LINEAR_WEIGHT:
        case PARAM_LINEAR_BIAS: host[i] = (float)((2 * philox_uniform(&stream) - 1) / sqrt(fan_in)); break;
        }
}

enum status model_init(struct model *m, uint64_t seed)
{
    enum status status = STATUS_OK;
    size_t largest = m->running_count;
    for (int i = 0; i < m->params_count; i++)
        largest = m->params[i].count > largest ? m->params[i].count : largest;
    float *host = malloc(largest * sizeof *host);
    if (!host)
        FAIL(STATUS_NOMEM, "out of memory for the weights");
    for (int n = 0; n < m->nodes_count; n++) {
        const struct node *node = &m->nodes[n];
        for (int i = node->param; i < node->param + node_params(node); i++) {
            struct param p = m->params[i];
            if (p.kind == PARAM_LINEAR_BIAS)
                p.shape[1] = m->params[i - 1].shape[1]; /* the weight's fan in */
            draw(&p, seed, i, node->residual_end && m->config.zero_gamma ? 0 : 1, host);
            TRY(model_set(m, m->weights, i, host));
        }
        if (node->kind == NODE_NORM)
            for (int c = 0; c < 2 * m->edges[node->out].c; c++)
                host[c] = c < m->edges[node->out].c ? 0 : 1;
        if (node->kind == NODE_NORM)
            m->device->ops->copy_in(m->device, m->running + node->running, host,
                                    2 * m->edges[node->out].c * sizeof *host);
    }
    model_normalize(m);
fail:
    free(host);
    return status;
}

int model_running_tensors(const struct model *m)
{
    int count = 0;
    for (int i = 0; i < m->nodes_count; i++)
        count += 2 * (m->nodes[i].kind == NODE_NORM);
    return count;
}

void model_running_tensor(const struct model *m, int index, char name[80], size_t *offset, int *channels)
{
    int norm = index / 2, i = 0;
    for (; m->nodes[i].kind != NODE_NORM || norm-- > 0; i++)
        ;
    *channels = m->edges[m->nodes[i].out].c;
    *offset = m->nodes[i].running + (size_t)(index % 2) * *channels;
    snprintf(name, 80, "%s.running_%s", m->nodes[i].name, index % 2 ? "var" : "mean");
}

/* ---- step sizes ---- */

static enum status converge(struct model *m)
{
    enum status status = STATUS_OK;
    for (int i = 0; m->power && i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        if (node->kind != NODE_CSC)
            continue;
        TRY(csc_power_start(m->power[node->csc], m->config.seed, (uint64_t)node->csc));
        TRY(csc_power_converge(m->power[node->csc], m->weights + m->params[node->param].offset, m->scratch));
    }
fail:
    return status;
}

enum status model_advance_node(struct model *m, int i, int iterations, int stream)
{
    enum status status = STATUS_OK;
    const struct node *node = &m->nodes[i];
    const struct csc_config *csc = &m->config.csc;
    TRY(csc_power_advance(m->power[node->csc], m->weights + m->params[node->param].offset, iterations,
                          m->scratch + (size_t)stream * m->stream_scratch));
    if (m->step_scalars)
        m->device->ops->step_scalars(m->device, m->lambda_max + node->csc, 1, csc->lambda, csc->mu,
                                     m->step_scalars + node->csc * STEP_SCALARS);
fail:
    return status;
}

void model_step_sizes_changed(struct model *m)
{
    m->eta_stale = false;
    m->pending_iterations = 0;
    for (int i = 0; m->step_scalars && i < m->csc_count; i++) {
        float scalars[STEP_SCALARS];
        csc_step_scalars(&m->config.csc, m->eta[i], scalars);
        m->device->ops->copy_in(m->device, m->step_scalars + i * STEP_SCALARS, scalars, sizeof scalars);
    }
}

void model_fetch_step_sizes(struct model *m)
{
    if (!m->eta_stale)
        return;
    assert(m->pending_iterations == 0); /* a training pass has queued them */
    csc_power_fetch(m->power, m->csc_count);
    for (int i = 0; i < m->csc_count; i++)
        m->eta[i] = m->power[i]->eta;
    m->eta_stale = false;
}

enum status model_converge_step_sizes(struct model *m)
{
    enum status status = STATUS_OK;
    m->pending_iterations = 0;
    TRY(converge(m));
    m->eta_stale = m->power != NULL;
    model_fetch_step_sizes(m);
    model_step_sizes_changed(m);
fail:
    return status;
}

enum status model_measure_step_sizes(struct model *m, int part, int parts, float *eta)
{
    enum status status = STATUS_OK;
    model_fetch_step_sizes(m);
    memset(eta, 0, m->csc_count * sizeof *eta);
    for (int i = 0; m->power && i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        if (node->kind != NODE_CSC || node->csc % parts != part)
            continue;
        struct csc_power copy = *m->power[node->csc];
        m->device->ops->axpby_f32(m->device, 1, copy.vector, 0, copy.vector, m->power_vector,
                                  conv_in_count(&copy.shape));
        copy.vector = m->power_vector;
        TRY(csc_power_converge(&copy, m->weights + m->params[node->param].offset, m->scratch));
        eta[node->csc] = copy.eta;
    }
fail:
    return status;
}

struct advance {
    struct model *model;
    int iterations;
};

/* In parallel streams, since one image leaves most of a GPU idle. */
static enum status advance(void *context)
{
    enum status status = STATUS_OK;
    const struct advance *a = context;
    struct model *m = a->model;
    const struct backend *ops = m->device->ops;
    if (ops->streams_begin)
        ops->streams_begin(m->device);
    for (int i = 0; i < m->nodes_count; i++) {
        int stream = ops->streams_begin ? m->nodes[i].csc % DEVICE_STREAMS : 0;
        if (m->nodes[i].kind != NODE_CSC)
            continue;
        if (ops->streams_begin)
            ops->stream_select(m->device, stream);
        TRY(model_advance_node(m, i, a->iterations, stream));
    }
fail:
    if (ops->streams_begin)
        ops->streams_end(m->device);
    return status;
}

static enum status run_iterations(struct model *m, int iterations)
{
    struct advance a = { m, iterations };
    const struct graph_key key = { .memory = { m->weights }, .count = iterations };
    const struct graph_work work = { .queue = advance, .context = &a };
    return graph_cache_run(&m->graph_cache, &key, &work);
}

enum status model_run_pending_iterations(struct model *m)
{
    int iterations = m->pending_iterations;
    m->pending_iterations = 0;
    return iterations > 0 ? run_iterations(m, iterations) : STATUS_OK;
}

enum status model_advance_step_sizes(struct model *m, int iterations)
{
    enum status status = STATUS_OK;
    if (!m->power)
        return STATUS_OK;
    TRY(model_run_pending_iterations(m));
    m->eta_stale = true;
    for (int i = 0; i < m->csc_count; i++)
        m->eta[i] = NAN; /* so that the old value is not used */
    if (m->step_scalars && m->device->ops->streams_begin) {
        m->pending_iterations = iterations;
        return STATUS_OK;
    }
    TRY(run_iterations(m, iterations));
    if (!m->step_scalars)
        model_fetch_step_sizes(m);
fail:
    return status;
}

const char *model_csc_name(const struct model *m, int csc)
{
    for (int i = 0; i < m->nodes_count; i++)
        if (m->nodes[i].kind == NODE_CSC && m->nodes[i].csc == csc)
            return m->nodes[i].name;
    return "";
}

double model_forward_macs(const struct model *m)
{
    double macs = 0;
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *n = &m->nodes[i];
        if (n->kind != NODE_CONV && n->kind != NODE_CSC)
            continue;
        double one = (double)conv_weight_count(&n->conv) * conv_out_h(&n->conv) * conv_out_w(&n->conv);
        macs += one * (n->kind == NODE_CSC ? 2 * m->config.csc.steps - 1 : 1);
    }
    return macs;
}
