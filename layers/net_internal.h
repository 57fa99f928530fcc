/* net_internal.h - what the files of net.h share: net_plan.c (memory), net_forward.c, net_backward.c, net_train.c (a
 * training pass, as captured graphs) and net_lambda.c (lambda by image, gradient of the image). */
#ifndef CSC_LAYERS_NET_INTERNAL_H
#define CSC_LAYERS_NET_INTERNAL_H

#include "layers/graph_cache.h"
#include "layers/net.h"

/* What a node needs besides its edges. Buffers are in device memory unless they say host. */
struct op {
    struct conv *conv;
    struct csc *csc;
    bool in_accumulates;  /* the backward pass adds to the gradient of `in`: another consumer has written it before */
    bool add_accumulates; /* the same for the shortcut that a norm adds */

    /* batch norm */
    float *saved;       /* from forward to backward */
    uint8_t *relu_mask; /* see struct norm_shape; NULL: the backward pass reads y */
    int code_node;  /* node of the CSC-layer whose code only this norm reads, so that it can mask its gradient; or -1 */
    int fused_pool; /* node of the max pooling that a training pass fuses with this norm; or -1, else: */
    uint8_t *argmax_in_window; /* of the pooling's output */
    void *argmax_value;

    /* max pooling */
    int32_t *argmax;      /* unless fused */
    bool fused_with_norm; /* in a training pass */

    /* CSC-layer */
    bool gradient_masked; /* by the norm that reads its code */
    float *lambda;        /* host, (n): as net_set_lambda gave it; NULL: the model's own */
    bool scales_input;    /* lambda differs between images, so the input is scaled instead: see net_lambda.c */
};

/* Buffers that several edges use in turn. */
struct slot {
    size_t bytes;
    bool busy; /* while planning */
    void *memory;
};
struct slots {
    struct slot *slots;
    int count;
};

/* The memory of an edge's activations, and of their gradient, on the device. */
struct edge_memory {
    void *value, *grad;                          /* the image has a gradient only for NET_INPUT_GRADIENT */
    void *grad_addend;                           /* if not NULL, the gradient is the sum of grad and this */
    int value_slot, grad_slot, grad_addend_slot; /* in values, and in grads; -1: none */
};

struct net {
    struct model *model;
    int n, count; /* images planned for; of the last upload */
    enum net_use use;
    bool training;           /* keeps what a backward pass needs */
    struct op *ops;          /* (nodes) */
    struct csc **csc_layers; /* in forward order */
    int csc_layers_count;
    struct edge_memory *edges; /* (edges) */
    struct slots values, grads;
    int32_t *labels;     /* device, (n) */
    float *losses;       /* device, (n) */
    float *loss;         /* device: their mean */
    void *scratch;       /* device, shared by all nodes */
    float *linear_grads; /* device: the classifier's gradients, which NET_INPUT_GRADIENT ignores */
    void *scaled_input; /* device, large enough for any CSC-layer's input; NULL until a lambda differs between images */
    struct arena arena, scaled_input_arena;
    size_t bytes;
    uint64_t version;               /* of the model's weights that the plans have loaded */
    struct graph_cache graph_cache; /* of net_train */
    bool warned_uncapturable;       /* the reason why nothing is captured has been logged */
    bool overlapped; /* the pass being captured loads weights and computes step sizes in parallel streams, until
                        net_streams_end */
};

/* net_plan.c */
size_t net_edge_count(const struct net *net, int edge);         /* elements of an edge's activations (n,h,w,c) */
struct norm_shape net_norm_shape(const struct net *net, int i); /* of node i; code_scale is 0 */
struct pool_shape net_pool_shape(const struct net *net, const struct node *node);
const float *net_param(const struct net *net, const struct node *node, int i); /* device: the node's parameter i */

/* net_forward.c */
enum status net_load_node(struct net *net, int i); /* loads the node's weights into its plan */
void net_streams_end(struct net *net);             /* ends `overlapped` */
int net_logits_edge(const struct net *net);

/* net_backward.c. grads: the gradients' part of the reduce buffer; NULL: weights and statistics are constants. */
enum status net_backward_node(struct net *net, int i, float *grads);

/* net_lambda.c: for a CSC-node i that scales_input. The first returns its input (n,h,w,c), scaled, in device memory;
 * the second makes the code of it, in place, the code of the unscaled input. */
const void *net_scale_input(struct net *net, int i);
void net_scale_code(struct net *net, int i);
void net_finish_lambda(struct net *net);

#endif
