/* scaling_model.c - the formulas and the timeline of scaling_model.h. */
#include "trainer/bench/scaling_model.h"

#include <assert.h>
#include <math.h>

#include "base/integer.h"

static double ring_all_reduce(const struct scaling_link *link, int ranks, double bytes)
{
    return ranks < 2 ? 0 : 2 * (ranks - 1) * (link->latency_s + bytes / ranks / link->bytes_s);
}

static double tree_all_reduce(const struct scaling_link *link, int ranks, double bytes)
{
    return ranks < 2 ? 0 : 2 * (ceil(log2(ranks)) * link->latency_s + bytes / link->bytes_s);
}

static double all_reduce_between_nodes(const struct scaling_cluster *c, int nodes, double bytes)
{
    switch (c->algorithm) {
    case SCALING_RING: return ring_all_reduce(&c->net, nodes, bytes);
    case SCALING_TREE: return tree_all_reduce(&c->net, nodes, bytes);
    default: return fmin(ring_all_reduce(&c->net, nodes, bytes), tree_all_reduce(&c->net, nodes, bytes));
    }
}

double scaling_all_reduce(const struct scaling_cluster *c, int ranks, double bytes)
{
    assert(c->per_node > 0 && ranks > 0);
    int inside = ranks < c->per_node ? ranks : c->per_node;
    int nodes = (int)ceil_div(ranks, inside);
    double bytes_per_rank = bytes / inside;
    double latency = ring_all_reduce(&c->node, inside, 0) + all_reduce_between_nodes(c, nodes, 0);
    return latency + fmax(ring_all_reduce(&c->node, inside, bytes) - ring_all_reduce(&c->node, inside, 0),
                          all_reduce_between_nodes(c, nodes, bytes_per_rank) - all_reduce_between_nodes(c, nodes, 0));
}

struct scaling_step scaling_step(const struct scaling_bucket *buckets, int count, double compute_s, double overlap)
{
    double link_free_s = 0, added_delay_s = 0,
           backward_s = 0; /* added_delay_s: processor time of the all-reduces so far */
    for (int i = 0; i < count; i++) {
        const struct scaling_bucket *b = &buckets[i];
        backward_s = b->ready_s + added_delay_s;
        link_free_s = fmax(link_free_s, backward_s) + b->all_reduce_s;
        added_delay_s += (1 - overlap) * b->all_reduce_s;
        backward_s = b->ready_s + added_delay_s;
    }
    double after = count ? compute_s - buckets[count - 1].ready_s : compute_s;
    double step = fmax(link_free_s, backward_s) + after;
    return (struct scaling_step){ .step_s = step, .exposed_s = step - compute_s };
}
