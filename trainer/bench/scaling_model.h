/* scaling_model.h - a training step on many ranks, on paper: sums of gradients over links of given figures, beside a
 * backward pass of measured times. All times in seconds, sizes in bytes. */
#ifndef CSC_TRAINER_BENCH_SCALING_MODEL_H
#define CSC_TRAINER_BENCH_SCALING_MODEL_H

/* A message of n bytes takes latency_s + n / bytes_s. */
struct scaling_link {
    double latency_s, bytes_s;
};

enum scaling_algorithm { SCALING_RING, SCALING_TREE, SCALING_BEST };

/* Nodes of per_node ranks, joined by `node` inside and by `net` outside, which each rank drives with an adapter of its
 * own. */
struct scaling_cluster {
    int per_node;
    struct scaling_link node, net;
    enum scaling_algorithm algorithm; /* over the network */
};

/* All ranks' sum of n bytes each. ring of p: 2(p-1) messages of n/p; tree of p, pipelined, both ways at once:
 * 2 ceil(log2 p) latencies and 2n over the link. Several nodes: inside a node everybody gets a share of n/per_node,
 * sums it over the nodes and hands it round; the two kinds of link work at the same time, piece by piece, so the slower
 * counts. */
double scaling_all_reduce(const struct scaling_cluster *cluster, int ranks, double bytes);

/* A bucket of gradients that is complete ready_s after the step began; its sum takes all_reduce_s. */
struct scaling_bucket {
    double ready_s, bytes, all_reduce_s;
};

struct scaling_step {
    double step_s, exposed_s; /* exposed: what the sums add */
};

/* Buckets in the order of ready_s, summed one after another. compute_s: a step without sums; what follows the last
 * bucket's readiness in it needs all sums. overlap: the share of a sum that goes on without the rank's processor, 0 to
 * 1; the rest delays the backward pass. */
struct scaling_step scaling_step(const struct scaling_bucket *buckets, int count, double compute_s, double overlap);

#endif
