/* scaling_model.c - the formulas and the timeline of scaling_model.h. */
#include "trainer/bench/scaling_model.h"

#include <assert.h>
#include <math.h>

static double ring(const struct scale_link *link, int ranks, double bytes)
{
    return ranks < 2 ? 0 : 2 * (ranks - 1) * (link->latency_s + bytes / ranks / link->bytes_s);
}

static double tree(const struct scale_link *link, int ranks, double bytes)
{
    return ranks < 2 ? 0 : 2 * (ceil(log2(ranks)) * link->latency_s + bytes / link->bytes_s);
}

static double network(const struct scale_cluster *c, int nodes, double bytes)
{
    switch (c->algorithm) {
    case SCALE_RING: return ring(&c->net, nodes, bytes);
    case SCALE_TREE: return tree(&c->net, nodes, bytes);
    default: return fmin(ring(&c->net, nodes, bytes), tree(&c->net, nodes, bytes));
    }
}

double scale_allreduce(const struct scale_cluster *c, int ranks, double bytes)
{
    assert(c->per_node > 0 && ranks > 0);
    int inside = ranks < c->per_node ? ranks : c->per_node;
    int nodes = (ranks + inside - 1) / inside;
    double share = bytes / inside;
    double latency = ring(&c->node, inside, 0) + network(c, nodes, 0);
    return latency + fmax(ring(&c->node, inside, bytes) - ring(&c->node, inside, 0),
                          network(c, nodes, share) - network(c, nodes, 0));
}

struct scale_step scale_step(const struct scale_bucket *buckets, int count, double compute_s, double overlap)
{
    double free_s = 0, delay = 0, backward = 0; /* when the link is free; what sums took from the processor so far */
    for (int i = 0; i < count; i++) {
        const struct scale_bucket *b = &buckets[i];
        backward = b->ready_s + delay;
        free_s = fmax(free_s, backward) + b->sum_s;
        delay += (1 - overlap) * b->sum_s;
        backward = b->ready_s + delay;
    }
    double after = count ? compute_s - buckets[count - 1].ready_s : compute_s;
    double step = fmax(free_s, backward) + after;
    return (struct scale_step){ .step_s = step, .exposed_s = step - compute_s };
}
