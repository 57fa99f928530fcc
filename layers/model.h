/* model.h - a network's shape, parameters, running statistics and step sizes; net.h runs it.
 * ResNet and SDNet 18/34/50 as published: layer0 is the stem, layer1..4 the residual blocks, linear the classifier.
 * Parameters lie in one flat buffer in the order in which a backward pass finishes them: last layer first. */
#ifndef CSC_LAYERS_MODEL_H
#define CSC_LAYERS_MODEL_H

#include "layers/backend/backend.h"
#include "layers/csc.h"
#include "layers/graph_cache.h"

struct model_config {
    int depth;             /* 18, 34, 50 */
    bool sparse_stem, all; /* sdnet: a CSC stem; -all: every 3x3 (in 50 also 1x1) convolution of the blocks too */
    bool imagenet_stem;    /* 7x7/2 and a 3x3/2 pool; else 3x3/1 */
    bool shortcut;         /* only -all may drop it, and with it the last ReLU of a block */
    int width, classes, image_size;
    char *const *layers; /* names of the CSC-layers ("layer1.0.conv1"); NULL: by the three flags above */
    int layers_count;
    bool zero_gamma; /* last batch norm of each block starts at 0 */
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
    size_t offset, count; /* floats in the flat buffer; (D,k,k,C) there */
};

enum node_kind { NODE_CONV, NODE_CSC, NODE_NORM, NODE_MAX, NODE_MEAN, NODE_LINEAR };

/* One operation between edges; edge 0 is the image, the last one the logits. */
struct node {
    enum node_kind kind;
    char name[64];
    int in, out, add;       /* edges; add is -1 unless a norm adds a shortcut */
    int param;              /* index of its first parameter, -1 if none */
    struct conv_shape conv; /* n = 0; also k, stride, pad of a pool */
    bool relu;
    bool residual_end; /* last norm of a block */
    int csc;           /* index among the CSC-layers */
    size_t running;    /* norm: offset of mean (C) and variance (C) in the running statistics */
};

int node_params(const struct node *node); /* how many parameters it has */

/* Per image. From the mean on, and so in every gradient there, all is float; before it, activations. */
struct edge {
    int h, w, c;
    bool floats;
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

    struct arena arena;       /* device memory, bytes in arena.size */
    float *weights, *running; /* (count), (running_count) */
    struct csc_power **power; /* (csc_count); NULL if the step size is given */
    float *power_vector;      /* device, room for any layer's: of model_measure_step_sizes */
    float *eta;               /* (csc_count), host; model_fetch_step_sizes first */
    bool eta_stale;           /* the device has newer ones */
    float *step_scalars; /* (csc_count, STEP_SCALARS) device: what follows from eta, where the device computes it; else
                            NULL */
    double *lambda_max;  /* (csc_count) device */
    struct graph_cache graph_cache; /* of model_advance_step_sizes */
    int pending_iterations; /* iterations that wait for the next training pass, or for whoever wants eta before it */
    char *scratch;          /* lane_scratch bytes for each of the device's lanes */
    size_t stream_scratch;
    uint64_t version; /* changes whenever weights do */
};

/* Builds and plans; memory is taken by model_allocate. STATUS_USAGE for impossible shapes or unknown layer names. */
enum status model_create(struct model **model, struct device *device, const struct model_config *config);
enum status model_allocate(struct model *model);
void model_destroy(struct model *model); /* NULL is fine */

/* Convolutions and classifier Kaiming uniform in +-1/sqrt(fan in), as PyTorch's layers by default (under batch norm
 * their size is a matter of the learning rate's first epochs); atoms of random direction; batch norm 1 and 0. */
enum status model_init(struct model *model, uint64_t seed);

/* One parameter between a flat device buffer (weights, momentum ...) and host memory in file layout. */
enum status model_get(const struct model *model, const float *flat, int param, float *host);
enum status model_set(struct model *model, float *flat, int param, const float *host);
/* After the weights were set from outside: dictionaries to unit atoms, plans are reloaded. */
void model_weights_changed(struct model *model);
void model_normalize(struct model *model);

/* Names and sizes of running statistics: index 0 .. 2 * norms - 1, "NAME.running_mean" then "NAME.running_var". */
int model_running_tensors(const struct model *model);
void model_running_tensor(const struct model *model, int index, char name[80], size_t *offset, int *channels);

/* Power iteration of every CSC-layer to convergence, or `iterations` more; a given step size needs neither. */
enum status model_converge_step_sizes(struct model *model);
/* The same for an evaluation in the middle of training: eta (csc_count) is what layers share, share + shares ...
 * converge to, 0 of the others. They start from copies of training's vectors; the model stays as it is. */
enum status model_measure_step_sizes(struct model *model, int share, int shares, float *eta);
/* Queued only; eta comes to the host late. Where the device has lanes they are queued with the next training pass,
 * beside it. */
enum status model_advance_step_sizes(struct model *model, int iterations);
/* What is due, at once. */
enum status model_run_pending_iterations(struct model *model);
/* What is due of CSC-node i, in the device's lane that is being queued in. */
enum status model_advance_node(struct model *model, int i, int iterations, int stream);
/* Brings eta to the host, if the device has newer ones: a wait. */
void model_fetch_step_sizes(struct model *model);
/* eta was set on the host. */
void model_step_sizes_changed(struct model *model);
const char *model_csc_name(const struct model *model, int csc);

/* How many multiply-adds one image's forward convolutions take. */
double model_forward_macs(const struct model *model);

#endif
