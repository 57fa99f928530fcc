/* architectures.c - builds the networks of the ResNet and SDNet family as a list of nodes between edges.
 * Basic block: conv bn relu conv bn (+ shortcut) relu; bottleneck: 1x1, 3x3 (strided), 1x1 to 4 times the
 * planes. There is no ReLU between a CSC-layer's batch norm and the next convolution: its codes are already sparse. */
#include "base/integer.h"
#include "layers/model_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAD_FLOATS = ARENA_ALIGN / sizeof(float) };

struct builder {
    struct model *model;
    enum status status; /* the first failure, after which calls add nothing */
    bool *used;         /* (layers_count): which names of config.layers the network has */
};

/* The table holds the image and an edge for each node. */
static int add_edge(struct builder *b, int h, int w, int c)
{
    struct model *m = b->model;
    m->edges[m->edges_count] = (struct edge){ .h = h, .w = w, .c = c };
    return m->edges_count++;
}

/* NULL if there are too many; b->status says so. */
static struct node *add_node(struct builder *b, enum node_kind kind, const char *name, int in)
{
    struct model *m = b->model;
    if (b->status == STATUS_OK && m->nodes_count == MODEL_MAX_NODES)
        b->status = status_report(STATUS_USAGE, __FILE__, __LINE__,
                                  "the network has more than %d operations, the most that are supported",
                                  MODEL_MAX_NODES);
    if (b->status != STATUS_OK)
        return NULL;
    struct node *node = &m->nodes[m->nodes_count++];
    *node = (struct node){ .kind = kind, .in = in, .add = -1, .param = -1, .csc = -1 };
    snprintf(node->name, sizeof node->name, "%s", name);
    return node;
}

/* A node adds one or two. */
static void add_param(struct builder *b, struct node *node, const char *suffix, enum param_kind kind, int dims, int d,
                      int c, int k)
{
    struct model *m = b->model;
    struct param *p = &m->params[m->params_count];
    *p = (struct param){ .kind = kind, .dims = dims, .shape = { d, c, k, k } };
    p->count = (size_t)d * (dims > 1 ? c : 1) * (dims > 2 ? k * k : 1);
    snprintf(p->name, sizeof p->name, "%s%s", node->name, suffix);
    if (node->param < 0)
        node->param = m->params_count;
    m->params_count++;
}

static bool is_sparse(struct builder *b, const char *name, bool by_arch)
{
    const struct model_config *config = &b->model->config;
    if (!config->layers)
        return by_arch;
    bool found = false;
    for (int i = 0; i < config->layers_count; i++)
        if (strcmp(config->layers[i], name) == 0)
            found = b->used[i] = true;
    return found;
}

/* Adds a convolution or a CSC-layer. Returns its output edge; *sparse (may be NULL): whether it is a CSC-layer. */
static int add_conv(struct builder *b, const char *name, int in, int d, int k, int stride, bool may_be_sparse,
                    bool by_arch, bool *sparse)
{
    struct model *m = b->model;
    const struct edge *e = &m->edges[in];
    struct conv_shape shape = {
        .n = 1, .h = e->h, .w = e->w, .c = e->c, .d = d, .k = k, .stride = stride, .pad = k / 2
    };
    bool code = may_be_sparse && is_sparse(b, name, by_arch);
    if (sparse)
        *sparse = code;
    if (b->status == STATUS_OK)
        b->status = conv_shape_check(&shape);
    if (b->status != STATUS_OK)
        return in;
    struct node *node = add_node(b, code ? NODE_CSC : NODE_CONV, name, in);
    if (!node)
        return in;
    node->out = add_edge(b, conv_out_h(&shape), conv_out_w(&shape), d);
    shape.n = 0;
    node->conv = shape;
    if (code)
        node->csc = m->csc_count++;
    add_param(b, node, code ? ".dn.weight" : ".weight", code ? PARAM_DICTIONARY : PARAM_CONV, 4, d, shape.c, k);
    return node->out;
}

static int add_norm(struct builder *b, const char *name, int in, int add, bool relu)
{
    struct model *m = b->model;
    const struct edge e = m->edges[in];
    struct node *node = add_node(b, NODE_NORM, name, in);
    if (!node)
        return in;
    node->add = add;
    node->relu = relu;
    node->running = m->running_count;
    m->running_count += 2 * (size_t)e.c;
    node->out = add_edge(b, e.h, e.w, e.c);
    add_param(b, node, ".weight", PARAM_NORM_WEIGHT, 1, e.c, 1, 1);
    add_param(b, node, ".bias", PARAM_NORM_BIAS, 1, e.c, 1, 1);
    return node->out;
}

static int add_stem(struct builder *b, int image)
{
    const struct model_config *config = &b->model->config;
    int k = config->imagenet_stem ? 7 : 3, stride = config->imagenet_stem ? 2 : 1;
    bool sparse;
    int x = add_conv(b, "layer0.0", image, config->width, k, stride, true, config->sparse_stem, &sparse);
    x = add_norm(b, "layer0.1", x, -1, !sparse);
    if (!config->imagenet_stem)
        return x;
    if (is_sparse(b, "layer0.2", config->all))
        return add_conv(b, "layer0.2", x, config->width, 3, 2, true, true, NULL);
    struct edge e = b->model->edges[x];
    struct node *pool = add_node(b, NODE_MAX, "layer0.2", x);
    if (!pool)
        return x;
    pool->conv = (struct conv_shape){ .h = e.h, .w = e.w, .c = e.c, .d = e.c, .k = 3, .stride = 2, .pad = 1 };
    pool->out = add_edge(b, conv_out_h(&pool->conv), conv_out_w(&pool->conv), e.c);
    return pool->out;
}

/* Adds one residual block of `planes` channels; prefix: "layer2.0" or "layer2.layers.0". */
static int add_block(struct builder *b, const char *prefix, int x, int planes, int stride)
{
    const struct model_config *config = &b->model->config;
    bool bottleneck = config->depth >= 50;
    int convs = bottleneck ? 3 : 2, out = bottleneck ? 4 * planes : planes, y = x, shortcut = -1;
    char name[64];
    for (int i = 1; i <= convs; i++) {
        bool strided = i == (bottleneck ? 2 : 1), sparse;
        snprintf(name, sizeof name, "%s.conv%d", prefix, i);
        y = add_conv(b, name, y, i == convs ? out : planes, bottleneck && i != 2 ? 1 : 3, strided ? stride : 1, true,
                     config->all, &sparse);
        if (i == convs && config->shortcut) {
            shortcut = x;
            if (stride != 1 || b->model->edges[x].c != out) {
                snprintf(name, sizeof name, "%s.shortcut.0", prefix);
                shortcut = add_conv(b, name, x, out, 1, stride, false, false, NULL);
                snprintf(name, sizeof name, "%s.shortcut.1", prefix);
                shortcut = add_norm(b, name, shortcut, -1, false);
            }
        }
        if (b->status != STATUS_OK)
            return x;
        snprintf(name, sizeof name, "%s.bn%d", prefix, i);
        y = add_norm(b, name, y, shortcut, i == convs ? config->shortcut : !sparse);
    }
    b->model->nodes[b->model->nodes_count - 1].residual_end = config->shortcut;
    return y;
}

static void add_head(struct builder *b, int x)
{
    struct model *m = b->model;
    struct edge e = m->edges[x];
    struct node *mean = add_node(b, NODE_MEAN, "mean", x);
    if (!mean)
        return;
    mean->conv = (struct conv_shape){ .h = e.h, .w = e.w, .c = e.c };
    mean->out = add_edge(b, 1, 1, e.c);
    m->edges[mean->out].floats = true;
    struct node *linear = add_node(b, NODE_LINEAR, "linear", mean->out);
    if (!linear)
        return;
    linear->conv = (struct conv_shape){ .c = e.c, .d = m->config.classes };
    linear->out = add_edge(b, 1, 1, m->config.classes);
    m->edges[linear->out].floats = true;
    add_param(b, linear, ".weight", PARAM_LINEAR_WEIGHT, 2, m->config.classes, e.c, 1);
    add_param(b, linear, ".bias", PARAM_LINEAR_BIAS, 1, m->config.classes, 1, 1);
}

static enum status check_layer_names(const struct builder *b)
{
    enum status status = STATUS_OK;
    const struct model_config *config = &b->model->config;
    for (int i = 0; config->layers && i < config->layers_count; i++)
        if (!b->used[i])
            FAIL(STATUS_USAGE,
                 "model.layers: '%s' is not a convolution of this network that can be a CSC-layer "
                 "(they are named as '%s' or 'layer0.0')",
                 config->layers[i], config->all ? "layer1.layers.0.conv1" : "layer1.0.conv1");
fail:
    return status;
}

/* Assigns offsets in the flat buffer: the last parameter first, each aligned to a cache line. */
static void assign_offsets(struct model *m)
{
    for (int i = m->params_count - 1; i >= 0; i--) {
        m->params[i].offset = m->count;
        m->count += round_up(m->params[i].count, PAD_FLOATS);
        m->parameters += m->params[i].count;
    }
}

/* Fills nodes, edges and parameters. */
static enum status build(struct model *m)
{
    enum status status = STATUS_OK;
    static const int blocks[2][4] = { { 2, 2, 2, 2 }, { 3, 4, 6, 3 } };
    struct builder b = { .model = m };
    b.used = calloc(m->config.layers_count + 1, sizeof *b.used);
    if (!b.used)
        FAIL(STATUS_NOMEM, "out of memory for the network");
    int x = add_stem(&b, add_edge(&b, m->config.image_size, m->config.image_size, 3));
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < blocks[m->config.depth > 18][stage] && b.status == STATUS_OK; i++) {
            char prefix[32];
            snprintf(prefix, sizeof prefix, m->config.all ? "layer%d.layers.%d" : "layer%d.%d", stage + 1, i);
            x = add_block(&b, prefix, x, m->config.width << stage, stage > 0 && i == 0 ? 2 : 1);
        }
    TRY(b.status);
    add_head(&b, x);
    TRY(b.status);
    TRY(check_layer_names(&b));
    assign_offsets(m);
fail:
    free(b.used);
    return status;
}

enum status model_create(struct model **out, struct device *device, const struct model_config *config)
{
    enum status status = STATUS_OK;
    struct model *m = NULL;
    TRY(model_new(&m, device, config));
    TRY(build(m));
    m->config.layers = NULL; /* the caller's */
    TRY(model_plan(m));
    *out = m;
    m = NULL;
fail:
    model_destroy(m);
    return status;
}
