/* net_train.c - a training pass over one batch: forward, loss and backward as one work for the graph cache. */
#include "base/log.h"
#include "layers/net_internal.h"

struct pass {
    struct net *net;
    float smoothing, *reduce_buffer;
    uint64_t version;       /* of the weights that the plans have loaded before the pass */
    int pending_iterations; /* power iterations that the pass computes first */
};

/* Whether loading changed weights and power iterations go to parallel streams. Only during capture: before, plans may
 * still be chosen, which waits for the device. */
static bool can_overlap(const struct pass *p)
{
    const struct net *net = p->net;
    return net->graph_cache.capturing && net->model->device->ops->streams_begin &&
           (p->pending_iterations > 0 || net->version != net->model->version);
}

/* Queues them on parallel streams. Node i's end with event i, for which its forward pass waits. The first node's go to
 * stream 0, since nothing can run beside them. */
static enum status prepare_on_streams(struct net *net, int iterations)
{
    enum status status = STATUS_OK;
    struct model *m = net->model;
    const struct backend *ops = m->device->ops;
    bool loads = net->version != m->version;
    int next = 0;
    ops->streams_begin(m->device);
    for (int i = 0; i < m->nodes_count; i++) {
        bool csc = net->ops[i].csc != NULL;
        int stream = i > 0 ? 1 + next % (DEVICE_STREAMS - 1) : 0;
        if (!csc && !net->ops[i].conv)
            continue;
        ops->stream_select(m->device, stream);
        if (loads)
            TRY(net_load_node(net, i));
        if (csc && iterations > 0)
            TRY(model_advance_node(m, i, iterations, stream));
        ops->event_record(m->device, i);
        next += i > 0;
    }
    net->version = m->version;
fail:
    ops->stream_select(m->device, 0);
    return status;
}

static enum status queue_pass(void *context)
{
    enum status status = STATUS_OK;
    struct pass *p = context;
    struct net *net = p->net;
    net->version = p->version; /* a capture that failed has loaded nothing */
    net->overlapped = can_overlap(p);
    if (net->overlapped) {
        TRY(prepare_on_streams(net, p->pending_iterations));
    } else if (p->pending_iterations > 0) {
        net->model->pending_iterations = p->pending_iterations;
        TRY(model_run_pending_iterations(net->model));
    }
    TRY(net_forward(net, p->reduce_buffer));
    TRY(net_backward(net, p->smoothing, p->reduce_buffer));
fail:
    if (net->overlapped) /* the forward pass failed before its end */
        net_streams_end(net);
    return status;
}

/* With csc.backward: implicit the host decides after each iteration of conjugate gradients whether to go on. */
static bool waits_on_host(struct net *net)
{
    const struct model *m = net->model;
    bool implicit = m->csc_count > 0 && m->config.csc.backward == CSC_IMPLICIT;
    if (implicit && m->device->ops->graph_capture_begin && !net->warned_uncapturable)
        log_info("csc.backward is implicit: the GPU's operations are launched one by one, not as a CUDA graph");
    net->warned_uncapturable = true;
    return implicit;
}

enum status net_train(struct net *net, float smoothing, float *reduce_buffer, const struct gradient_sink *sink)
{
    enum status status = STATUS_OK;
    struct model *m = net->model;
    enum { LOADS = 1, ITERATIONS = 2 };
    struct pass pass = { net, smoothing, reduce_buffer, net->version, m->pending_iterations };
    const struct graph_key key = { .memory = { reduce_buffer, m->weights, sink },
                                   .count = net->count,
                                   .scalar = smoothing,
                                   .kind = (net->version != m->version ? LOADS : 0) |
                                           (unsigned)m->pending_iterations * ITERATIONS };
    const struct graph_work work = { queue_pass, &pass, sink, waits_on_host(net) };
    net->graph_cache.device = m->device;
    m->pending_iterations = 0;
    TRY(graph_cache_run(&net->graph_cache, &key, &work));
    net->version = m->version; /* a launched graph has loaded them, too */
fail:
    return status;
}

bool net_uses_graphs(const struct net *net)
{
    return graph_cache_has_graph(&net->graph_cache);
}
