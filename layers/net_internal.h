/* net_internal.h - what net_plan.c, net.c (forward, backward) and net_lambda.c (lambda by image, gradient of the image)
 * share. */
#ifndef CSC_LAYERS_NET_INTERNAL_H
#define CSC_LAYERS_NET_INTERNAL_H

#include "layers/graph_cache.h"
#include "layers/net.h"

/* What a node needs besides its edges. */
struct op {
    struct conv *conv;
    struct csc *csc;
    float *saved;              /* norm: what its forward pass saves, */
    uint8_t *relu_mask;        /* and where its ReLU was open; NULL: the device looks at y */
    int32_t *argmax;           /* max pool, but where its norm does it in a training pass: */
    int fused_pool;            /* norm: the pooling that it does, too; else -1 */
    bool fused_with_norm;      /* max pool: done by its norm */
    uint8_t *argmax_in_window; /* norm: of each maximum, and */
    void *argmax_value;        /* its x */
    bool in_accumulates; /* another consumer of `in` comes later in the network, so its gradient is there already */
    bool add_accumulates;
    float *lambda;        /* csc: (n) per image, host, as net_set_lambda gave it; NULL: the model's own */
    int code_node;        /* norm: the node of the CSC-layer whose code it alone takes; else -1 */
    bool gradient_masked; /* csc: such a norm masks its gradient */
    bool scales_input;    /* lambda differs between images: the input is scaled instead, see net_lambda.c */
};

struct slots { /* sizes in bytes of buffers that several edges use in turn */
    size_t *bytes;
    bool *busy;
    int count;
};

struct net {
    struct model *model;
    int n, count; /* batch, samples of the last upload */
    enum net_use use;
    bool training;           /* keeps what a backward pass needs */
    struct op *ops;          /* (nodes) */
    struct csc **csc_layers; /* the CSC-layers among them, in their order */
    int csc_layers_count;
    void **value, **grad; /* (edges); grad of edge 0 only of NET_INPUT_GRADIENT */
    void **grad_addend;   /* (edges) not NULL: the gradient is the sum of grad and this */
    int *value_slot, *grad_slot, *grad_addend_slot;
    struct slots values, grads;
    int32_t *labels; /* device */
    float *losses;   /* device (N) */
    float *loss;     /* device: their mean */
    void *scratch;
    float *linear_grads; /* device: where NET_INPUT_GRADIENT lets the classifier's gradients go */
    void *scaled_input;  /* device: the largest input of a CSC-layer, once a lambda differs between images */
    struct arena arena, scaled_input_arena;
    size_t bytes;
    uint64_t version;               /* of the weights that the plans hold */
    struct graph_cache graph_cache; /* of net_train */
    bool warned_uncapturable;       /* why nothing is recorded */
    bool overlapped; /* the pass under way: weights and step sizes come beside it, in lanes that are joined behind its
                    forward part */
};

/* net_plan.c. Elements of an edge's activations (n,h,w,c). */
size_t net_edge_count(const struct net *net, int edge);

/* net.c. grads NULL: weights and statistics are constants. */
enum status net_backward_node(struct net *net, int i, float *grads);
int net_logits_edge(const struct net *net);
void net_streams_end(struct net *net);             /* of what is beside */
enum status net_load_node(struct net *net, int i); /* its plans' copy of the weights */

/* net_lambda.c. z = value[out] of CSC-node i; diagnostics of it, or NULL. */
enum status net_forward_csc(struct net *net, int i, struct csc_diagnostics *diagnostics);
/* Batch norm with running statistics, backwards. */
void net_backward_frozen_norm(struct net *net, int i);
void net_finish_lambda(struct net *net);

#endif
