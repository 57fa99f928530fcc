/* model.h - a network's shape, parameters, running statistics and step sizes; net.h runs it.
 * ResNet and SDNet 18/34/50 as published: layer0 is the stem, layer1..4 the residual blocks, linear the classifier.
 * Parameters lie in one flat buffer in the order in which a backward pass finishes them: last layer first. */
#ifndef CSC_LAYERS_MODEL_H
#define CSC_LAYERS_MODEL_H

#include "layers/csc.h"
#include "layers/graph_cache.h"

struct model_config {
    int depth;             /* 18, 34, 50 */
    bool sparse_stem, all; /* sdnet: a CSC stem; -all: every 3x3 (in 50 also 1x1) convolution of the blocks, too */
    bool imagenet_stem;    /* 7x7/2 and a 3x3/2 pool; else 3x3/1 */
    bool shortcut;         /* only -all may drop it, and with it the last ReLU of a block */
    int width, classes, image_size;
    char *const *layers; /* names of the CSC-layers ("layer1.0.conv1"); NULL: chosen by the three flags above */
    int layers_count;
    bool zero_gamma; /* the last batch norm of each block starts at 0 */
    struct csc_config csc;
    float step_size; /* eta; 0: from power iteration */
    uint64_t seed;   /* of power iteration's start */
};

enum param_kind {
    PARAM_CONV,
    PARAM_DICTIONARY,
    PARAM_NORM_WEIGHT,
    PARAM_NORM_BIAS,
    PARAM_LINEAR_WEIGHT,
    PARAM_LINEAR_BIAS
};

struct param {
    char name[64]; /* as in the published code: "layer1.0.conv1.weight", "layer0.0.dn.weight" */
    enum param_kind kind;
    int dims, shape[4];   /* in files: (D,C,k,k), (K,C), (C) */
    size_t offset, count; /* floats in the flat buffer, where convolutions are (D,k,k,C) */
};

enum node_kind { NODE_CONV, NODE_CSC, NODE_NORM, NODE_MAX, NODE_MEAN, NODE_LINEAR };

/* One operation between edges. Edge 0 is the image, the last edge the logits. */
struct node {
    enum node_kind kind;
    char name[64];
    int in, out, add;       /* edges; add is the shortcut that a norm adds, or -1 */
    int param;              /* index of its first parameter, -1 if none */
    struct conv_shape conv; /* n = 0; also k, stride and pad of a pool */
    bool relu;
    bool residual_end; /* the last norm of a block */
    int csc;           /* index among the CSC-layers */
    size_t running;    /* norm: offset of mean (C) and variance (C) in the running statistics */
};

int node_params(const struct node *node); /* the number of its parameters */

/* The shape of one image's data between two nodes. */
struct edge {
    int h, w, c;
    bool floats; /* fp32, as from the mean on; else activations. The same holds for its gradient */
};

struct model {
    struct device *device;
    struct model_config config;
    struct node *nodes;
    int nodes_count;
    struct edge *edges;
    int edges_count;
    struct param *params; /* in forward order; the flat buffer holds them in reverse */
    int params_count;
    size_t count;         /* floats in the flat buffer, padding (always 0) included */
    size_t parameters;    /* without padding */
    size_t running_count; /* floats of running statistics */
    int csc_count;

    struct arena arena;             /* device memory, bytes in arena.size */
    float *weights, *running;       /* device, (count), (running_count) */
    struct csc_power **power;       /* (csc_count); NULL if the step size is given */
    float *power_vector;            /* device, large enough for any layer's: of model_measure_step_sizes */
    float *eta;                     /* host, (csc_count); call model_fetch_step_sizes before reading it */
    bool eta_stale;                 /* the device has newer ones */
    float *step_scalars;            /* device, (csc_count, STEP_SCALARS); NULL if the device does not compute them */
    double *lambda_max;             /* device, (csc_count) */
    struct graph_cache graph_cache; /* of power iterations outside a training pass */
    int pending_iterations; /* power iterations left for the next training pass, or for whoever needs eta before it */
    char *scratch;          /* stream_scratch bytes for each of the device's streams */
    size_t stream_scratch;
    uint64_t version; /* changes whenever the weights do */
};

/* architectures.c: builds and plans the network; device memory is taken by model_allocate. STATUS_USAGE for impossible
 * shapes, unknown layer names or too many layers. */
enum status model_create(struct model **model, struct device *device, const struct model_config *config);
enum status model_allocate(struct model *model);
void model_destroy(struct model *model); /* NULL is fine */

/* Draws convolutions and the classifier uniformly from +-1/sqrt(fan in), PyTorch's default (under batch norm their size
 * matters in the first epochs only), atoms with random directions, and sets batch norms to 1 and 0. */
enum status model_init(struct model *model, uint64_t seed);

/* Copy one parameter between a flat device buffer (weights, momentum ...) and host memory in file layout. */
enum status model_get(const struct model *model, const float *flat, int param, float *host);
enum status model_set(struct model *model, float *flat, int param, const float *host);
/* Must follow every change of the weights by the caller, so that plans reload them. */
void model_weights_changed(struct model *model);
/* Projects the dictionaries to unit atoms; the weights have then changed. */
void model_normalize(struct model *model);

/* The tensors of running statistics: index 0 .. 2 * norms - 1, "NAME.running_mean" then "NAME.running_var". */
int model_running_tensors(const struct model *model);
void model_running_tensor(const struct model *model, int index, char name[80], size_t *offset, int *channels);

/* Power iteration of every CSC-layer to convergence, from a random start. A given step size needs none. */
enum status model_converge_step_sizes(struct model *model);
/* The same from copies of training's vectors, for an evaluation during training; the model stays as it is. Fills eta
 * (host, (csc_count)) for the layers part, part + parts ..., so that ranks can share the work; the others' are 0. */
enum status model_measure_step_sizes(struct model *model, int part, int parts, float *eta);
/* Queues `iterations` more for every CSC-layer; on a device with streams, beside the next training pass. */
enum status model_advance_step_sizes(struct model *model, int iterations);
/* Queues pending iterations at once. */
enum status model_run_pending_iterations(struct model *model);
/* Queues pending iterations of CSC-node i, with the scratch of the device's selected stream. */
enum status model_advance_node(struct model *model, int i, int iterations, int stream);
/* Brings eta to the host if the device has newer ones, and then waits for it. */
void model_fetch_step_sizes(struct model *model);
/* Must follow a change of eta on the host. */
void model_step_sizes_changed(struct model *model);
const char *model_csc_name(const struct model *model, int csc);

/* Multiply-adds of one image's forward convolutions. */
double model_forward_macs(const struct model *model);

#endif
