/* net_train.c - a training pass over one batch: forward, loss and backward as one work for the device, recorded where it can. */
#include "base/log.h"
#include "layers/net_internal.h"

struct pass {
    struct net *net;
    float smoothing, *sums;
    uint64_t version; /* of the weights that the plans held before */
    int due;          /* power iterations that come first */
    net_ready *ready;
    net_cuts *cuts;
    void *context;    /* of the two */
};

static enum status reached(void *tape, int ready)
{
    return tape_point(tape, ready);
}

static enum status queue(void *context)
{
    enum status status = STATUS_OK;
    struct pass *p = context;
    struct net *net = p->net;
    net->version = p->version; /* a recording that failed has loaded nothing */
    net->beside = p->due > 0 && net->tape.into; /* call by call plans may still be chosen, which waits */
    if (net->beside) {
        TRY(model_begin_step_sizes(net->model, p->due));
    } else if (p->due > 0) {
        net->model->due = p->due;
        TRY(model_catch_up(net->model));
    }
    TRY(net_forward(net, p->sums));
    TRY(net_backward(net, p->smoothing, p->sums, p->ready ? reached : NULL, &net->tape));
fail:
    if (net->beside) /* the forward pass has not come to its end */
        net_join(net);
    return status;
}

static enum status point(void *context, int ready)
{
    const struct pass *p = context;
    return p->ready ? p->ready(p->context, ready) : STATUS_OK;
}

static bool cuts(void *context, int ready)
{
    const struct pass *p = context;
    return p->cuts && p->cuts(p->context, ready);
}

/* Conjugate gradients ask on the host, at every iteration, whether to go on. */
static bool asks_back(struct net *net)
{
    const struct model *m = net->model;
    bool implicit = m->csc_count > 0 && m->config.csc.backward == CSC_IMPLICIT;
    if (implicit && m->device->ops->record && !net->told)
        log_info("csc.backward is implicit: batches go to the GPU call by call, not as a CUDA graph");
    net->told = true;
    return implicit;
}

enum status net_train(struct net *net, float smoothing, float *sums, net_ready *ready, net_cuts *cut, void *context)
{
    enum status status = STATUS_OK;
    struct model *m = net->model;
    enum { LOADS = 1, REPORTS = 2, DUE = 4 };
    struct pass pass = { net, smoothing, sums, net->version, m->due, ready, cut, context };
    const struct tape_key key = { .memory = { sums, m->weights }, .count = net->count, .number = smoothing,
                                      .kind = (net->version != m->version ? LOADS : 0) | (ready ? REPORTS : 0) |
                                              (unsigned)m->due * DUE };
    const struct tape_work work = { .queue = queue, .point = point, .cuts = cuts, .never = asks_back(net), .context = &pass };
    net->tape.device = m->device;
    m->due = 0;
    TRY(tape_run(&net->tape, &key, &work));
    net->version = m->version; /* replayed or not */
fail:
    return status;
}
