/* scaling_model.h - a model of a training step on many ranks: all-reduces over links of given latency and bandwidth,
 * beside a backward pass with measured times. All times are in seconds, all sizes in bytes. */
#ifndef CSC_TRAINER_BENCH_SCALING_MODEL_H
#define CSC_TRAINER_BENCH_SCALING_MODEL_H

/* A message of n bytes takes latency_s + n / bytes_s. */
struct scaling_link {
    double latency_s, bytes_s;
};

enum scaling_algorithm { SCALING_RING, SCALING_TREE, SCALING_BEST };

/* Nodes of per_node ranks. `node` links the ranks of a node; `net` links the nodes, and each rank drives its own
 * network adapter. */
struct scaling_cluster {
    int per_node;
    struct scaling_link node, net;
    enum scaling_algorithm algorithm; /* between nodes */
};

/* The time of an all-reduce of n bytes. A ring of p ranks sends 2(p-1) messages of n/p bytes each. A pipelined
 * tree of p ranks, which uses both directions at once, takes 2 ceil(log2 p) latencies and sends 2n bytes over
 * each link. With several nodes, the ranks of a node reduce-scatter, each rank all-reduces its n/per_node bytes
 * between the nodes, and the ranks of a node all-gather. Both kinds of link work at the same time, piece by
 * piece, so only the slower one counts. */
double scaling_all_reduce(const struct scaling_cluster *cluster, int ranks, double bytes);

/* A bucket of gradients, which is ready ready_s after the start of the step and whose all-reduce takes all_reduce_s. */
struct scaling_bucket {
    double ready_s, bytes, all_reduce_s;
};

struct scaling_step {
    double step_s, exposed_s; /* exposed_s: the time that the all-reduces add */
};

/* The time of a step. Buckets are in the order of ready_s; their all-reduces run one after another. compute_s is a
 * step without communication; the part of it after the last bucket is ready needs all reduced gradients. overlap
 * (0..1) is the share of an all-reduce that does not need the rank's processor; the rest delays the backward pass. */
struct scaling_step scaling_step(const struct scaling_bucket *buckets, int count, double compute_s, double overlap);

#endif
