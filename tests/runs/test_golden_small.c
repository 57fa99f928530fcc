/* test_golden_small.c - one SGD step of small networks against float64 reference numbers that are committed:
 * evaluation logits, loss, and of every tensor the norm and two projections of its gradient and of its change.
 * The initial state and the batch are drawn from the case's seed; golden_small.py, which made the numbers, describes
 * the generator and the files. They need exact integers and double arithmetic rounded once: do not rewrite one side.
 * usage: test-golden-small BACKEND FILE.json... */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/device.h"
#include "layers/net.h"
#include "tests/check.h"
#include "trainer/train/optimizer.h"

#define TOGETHER 1e-5 /* all norms and projections of a kind, relative norm; logits and loss too */
#define ALONE    1e-4 /* one tensor's three numbers, relative to its norm, */
#define FLOOR    1e-6 /* or to the norm of all tensors of its kind, for those whose gradient nearly cancels */

struct golden {
    const char *path;
    json_t *json;
    const json_t *hyper;
    uint64_t seed;
    struct device *device;
    struct model *model;
    struct net *net;
    struct optimizer *optimizer;
    struct arena arena;
    float *reduce_buffer;                            /* device */
    float *host;                                     /* large enough for any tensor */
    double *start;                                   /* likewise */
    double logits, loss, gradients, change, running; /* relative errors */
};

/* ---- the generator ---- */

struct stream {
    uint64_t state;
};

static struct stream stream_of(uint64_t seed, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
    return (struct stream){ hash + seed * 0x9e3779b97f4a7c15 };
}

static uint64_t draw(struct stream *s)
{
    uint64_t z = s->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Nearly normal, deviation 65536 / sqrt(3). */
static int64_t integer(struct stream *s)
{
    uint64_t u = draw(s);
    return (int64_t)((u & 0xffff) + (u >> 16 & 0xffff) + (u >> 32 & 0xffff) + (u >> 48)) - 131070;
}

static void fill_atoms(struct stream *s, float *to, int atoms, size_t each)
{
    for (int d = 0; d < atoms; d++, to += each) {
        struct stream again = *s;
        int64_t squares = 0;
        for (size_t i = 0; i < each; i++) {
            int64_t n = integer(s);
            squares += n * n;
        }
        for (size_t i = 0; i < each; i++)
            to[i] = (float)((double)integer(&again) / sqrt((double)squares));
    }
}

/* The last norm of a residual block, whose weight is `gain` times another's. */
static bool ends_block(const struct golden *g, const struct param *p)
{
    return strstr(p->name, g->model->config.depth >= 50 ? ".bn3." : ".bn2.") != NULL;
}

/* In file layout. */
static void fill_param(const struct golden *g, const struct param *p, float *to)
{
    struct stream s = stream_of(g->seed, p->name);
    double base = 0, scale, fan_in = (double)p->shape[1] * p->shape[2] * p->shape[3];
    if (p->kind == PARAM_DICTIONARY) {
        fill_atoms(&s, to, p->shape[0], p->count / p->shape[0]);
        return;
    }
    switch (p->kind) {
    case PARAM_CONV: scale = sqrt(6 / fan_in) / 65536; break;
    case PARAM_LINEAR_WEIGHT: scale = sqrt(3.0 / p->shape[1]) / 65536; break;
    case PARAM_NORM_WEIGHT:
        base = ends_block(g, p) ? json_number_value(json_object_get(g->hyper, "gain")) : 1;
        scale = base * 0x1p-19; /* a gain is a power of two */
        break;
    default: scale = 0x1p-18; break;
    }
    for (size_t i = 0; i < p->count; i++)
        to[i] = (float)(base + (double)integer(&s) * scale);
}

/* NAME.running_mean or NAME.running_var. */
static void fill_running(const struct golden *g, const char *tensor, int channels, float *to)
{
    struct stream s = stream_of(g->seed, tensor);
    const char *suffix = strrchr(tensor, '.');
    char norm[80];
    snprintf(norm, sizeof norm, "%.*s", (int)(suffix - tensor), tensor);
    const json_t *pair = json_object_get(json_object_get(g->json, "statistics"), norm);
    double mean = json_number_value(json_array_get(pair, 0)), std = json_number_value(json_array_get(pair, 1));
    for (int c = 0; c < channels; c++) {
        double n = (double)integer(&s) * 0x1p-18;
        to[c] = (float)(strcmp(suffix, ".running_var") == 0 ? std * std * (1 + n) : mean + std * n);
    }
}

static void fill_images(uint64_t seed, int batch, int size, float *to)
{
    static const double mean[3] = { 0.4914, 0.4822, 0.4465 }, std[3] = { 0.2023, 0.1994, 0.2010 };
    struct stream fine = stream_of(seed, "images"), coarse = stream_of(seed, "coarse");
    int cells = (size + 7) / 8;
    uint64_t *levels = malloc((size_t)cells * cells * 3 * sizeof *levels);
    for (int n = 0; n < batch; n++) {
        for (int i = 0; i < cells * cells * 3; i++)
            levels[i] = draw(&coarse) >> 60;
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++)
                for (int c = 0; c < 3; c++) {
                    uint64_t level = levels[(y / 8 * cells + x / 8) * 3 + c];
                    double pixel = (double)((draw(&fine) >> 60) * 9 + level * 8);
                    *to++ = (float)((pixel / 255 - mean[c]) / std[c]);
                }
    }
    free(levels);
}

/* ---- the case ---- */

static double number_of(const struct golden *g, const char *key)
{
    return json_number_value(json_object_get(g->hyper, key));
}

static bool is_true(const struct golden *g, const char *key)
{
    return json_is_true(json_object_get(g->hyper, key));
}

static struct model_config model_of(const struct golden *g)
{
    const char *arch = json_string_value(json_object_get(g->hyper, "arch"));
    bool sparse = strncmp(arch, "sdnet", 5) == 0;
    return (struct model_config){
        .depth = atoi(arch + (sparse ? 5 : 6)),
        .sparse_stem = sparse,
        .all = strstr(arch, "-all") != NULL,
        .imagenet_stem = strcmp(json_string_value(json_object_get(g->hyper, "stem")), "imagenet") == 0,
        .shortcut = is_true(g, "shortcut"),
        .width = (int)number_of(g, "width"),
        .classes = (int)number_of(g, "classes"),
        .image_size = (int)number_of(g, "size"),
        .csc = { .steps = (int)number_of(g, "steps"),
                 .lambda = (float)number_of(g, "lam"),
                 .mu = (float)number_of(g, "mu"),
                 .nonnegative = is_true(g, "nonnegative") },
        .step_size = (float)number_of(g, "eta"),
    };
}

static size_t largest(const struct model *m)
{
    size_t largest = m->running_count;
    for (int i = 0; i < m->params_count; i++)
        largest = m->params[i].count > largest ? m->params[i].count : largest;
    return largest;
}

static enum status build(struct golden *g, const char *backend)
{
    enum status status = STATUS_OK;
    json_error_t error;
    g->json = json_load_file(g->path, 0, &error);
    if (!g->json)
        FAIL(STATUS_DATA, "%s: %s", g->path, error.text);
    g->hyper = json_object_get(g->json, "hyper");
    g->seed = (uint64_t)number_of(g, "seed");
    struct model_config model = model_of(g);
    struct optimizer_config optimizer = { .momentum = (float)number_of(g, "momentum"),
                                          .decay_norm_and_bias = true,
                                          .weight_decay = (float)number_of(g, "weight_decay"),
                                          .nesterov = is_true(g, "nesterov") };
    TRY(device_open(&g->device, backend, PRECISION_FP32, 1));
    TRY(model_create(&g->model, g->device, &model));
    TRY(model_allocate(g->model));
    TRY(net_create(&g->net, g->model, (int)number_of(g, "batch"), NET_TRAINING));
    TRY(net_allocate(g->net));
    TRY(optimizer_create(&g->optimizer, g->model, &optimizer));
    size_t bytes = net_reduce_layout(g->model).count * sizeof *g->reduce_buffer;
    arena_take(&g->arena, bytes);
    TRY(g->device->ops->arena_allocate(g->device, &g->arena));
    g->reduce_buffer = arena_take(&g->arena, bytes);
    g->host = malloc(largest(g->model) * sizeof *g->host);
    g->start = malloc(largest(g->model) * sizeof *g->start);
fail:
    return status;
}

static enum status set_state(struct golden *g)
{
    enum status status = STATUS_OK;
    struct model *m = g->model;
    for (int i = 0; i < m->params_count; i++) {
        fill_param(g, &m->params[i], g->host);
        TRY(model_set(m, m->weights, i, g->host));
    }
    for (int i = 0; i < model_running_tensors(m); i++) {
        char tensor[80];
        size_t offset;
        int channels;
        model_running_tensor(m, i, tensor, &offset, &channels);
        fill_running(g, tensor, channels, g->host);
        g->device->ops->copy_in(g->device, m->running + offset, g->host, channels * sizeof *g->host);
    }
    model_weights_changed(m);
fail:
    return status;
}

static enum status upload(struct golden *g)
{
    enum status status = STATUS_OK;
    int batch = (int)number_of(g, "batch"), size = g->model->config.image_size;
    struct stream s = stream_of(g->seed, "labels");
    float *images = malloc((size_t)batch * size * size * 3 * sizeof *images);
    int32_t *labels = malloc(batch * sizeof *labels);
    fill_images(g->seed, batch, size, images);
    for (int n = 0; n < batch; n++)
        labels[n] = (int32_t)((draw(&s) >> 33) % (uint64_t)g->model->config.classes);
    TRY(net_upload(g->net, images, labels, batch));
fail:
    free(images);
    free(labels);
    return status;
}

/* ---- comparison ---- */

struct eval_statistics {
    double error, size;
};

static void count_in(struct eval_statistics *t, double got, double want)
{
    t->error += (got - want) * (got - want);
    t->size += want * want;
}

static double relative(const struct eval_statistics *t)
{
    return sqrt(t->error / t->size);
}

/* Norm and two projections of `values` less `from` (NULL: of values) against the file's. */
static void compare_tensor(const struct golden *g, const char *table, const char *tensor, const float *values,
                           const double *from, size_t count, struct eval_statistics *all, struct eval_statistics *one)
{
    const json_t *want = json_object_get(json_object_get(g->json, table), tensor);
    double got[3] = { 0 };
    *one = (struct eval_statistics){ 0 };
    CHECK(json_array_size(want) == 3, "%s: no %s of %s", g->path, table, tensor);
    for (int probe = 0; probe < 3; probe++) {
        char name[96];
        snprintf(name, sizeof name, "%s/%d", tensor, probe);
        struct stream s = stream_of(g->seed, name);
        for (size_t i = 0; i < count; i++) {
            double v = from ? values[i] - from[i] : values[i];
            got[probe] += v * (probe ? (double)integer(&s) / 32768 : v);
        }
    }
    got[0] = sqrt(got[0]);
    for (int i = 0; i < 3; i++) {
        count_in(all, got[i], json_number_value(json_array_get(want, i)));
        count_in(one, got[i], json_number_value(json_array_get(want, i)));
    }
}

/* Second pass, when the norm of all is known. */
static void check_alone(const struct golden *g, const char *table, const char *tensor,
                        const struct eval_statistics *one, const struct eval_statistics *all)
{
    double error = sqrt(one->error), bound = fmax(ALONE * sqrt(one->size), FLOOR * sqrt(all->size));
    CHECK(error <= bound, "%s: %s of %s off by %.2g, may be %.2g", g->path, table, tensor, error, bound);
}

/* All parameters' gradients, or their change since the initial state. */
static enum status compare_params(const struct golden *g, const char *table, const float *flat, bool change,
                                  double *error)
{
    enum status status = STATUS_OK;
    const struct model *m = g->model;
    struct eval_statistics all = { 0 }, *each = calloc(m->params_count, sizeof *each);
    for (int i = 0; i < m->params_count; i++) {
        const struct param *p = &m->params[i];
        if (change) {
            fill_param(g, p, g->host);
            for (size_t j = 0; j < p->count; j++)
                g->start[j] = g->host[j];
        }
        TRY(model_get(m, flat, i, g->host));
        compare_tensor(g, table, p->name, g->host, change ? g->start : NULL, p->count, &all, &each[i]);
    }
    for (int i = 0; i < m->params_count; i++)
        check_alone(g, table, m->params[i].name, &each[i], &all);
    CHECK(json_object_size(json_object_get(g->json, table)) == (size_t)m->params_count, "%s: %s of other tensors",
          g->path, table);
    *error = relative(&all);
fail:
    free(each);
    return status;
}

static void compare_running(struct golden *g)
{
    const struct model *m = g->model;
    struct eval_statistics all = { 0 };
    for (int i = 0; i < model_running_tensors(m); i++) {
        char tensor[80];
        size_t offset;
        int channels;
        struct eval_statistics one;
        model_running_tensor(m, i, tensor, &offset, &channels);
        fill_running(g, tensor, channels, g->host);
        for (int c = 0; c < channels; c++)
            g->start[c] = g->host[c];
        g->device->ops->copy_out(g->device, g->host, m->running + offset, channels * sizeof *g->host);
        compare_tensor(g, "running", tensor, g->host, g->start, channels, &all, &one);
        check_alone(g, "running", tensor, &one, &all);
    }
    g->running = relative(&all);
}

static enum status compare_logits(struct golden *g)
{
    enum status status = STATUS_OK;
    int batch = (int)number_of(g, "batch"), classes = g->model->config.classes;
    struct eval_statistics all = { 0 };
    float *losses = malloc(batch * sizeof *losses), *logits = malloc((size_t)batch * classes * sizeof *logits);
    TRY(net_infer(g->net, NULL));
    TRY(net_losses(g->net, 0, losses, logits));
    for (int i = 0; i < batch * classes; i++)
        count_in(&all, logits[i],
                 json_number_value(
                     json_array_get(json_array_get(json_object_get(g->json, "logits"), i / classes), i % classes)));
    g->logits = relative(&all);
fail:
    free(losses);
    free(logits);
    return status;
}

/* ---- the step ---- */

static enum status count_ready(void *context, int ready)
{
    int *next = context;
    CHECK(ready == *next, "parameter %d is ready, should be %d", ready, *next);
    ++*next;
    return STATUS_OK;
}

static bool cut_often(void *context, int ready)
{
    (void)context;
    return ready % 3 == 0;
}

/* net_train has the bits of net_forward and net_backward, call by call and as captured graphs of one segment or many.
 */
static enum status compare_passes(struct golden *g)
{
    enum status status = STATUS_OK;
    const struct backend *ops = g->device->ops;
    size_t bytes = net_reduce_layout(g->model).count * sizeof(float);
    float *halves = malloc(bytes), *whole = malloc(bytes);
    int next;
    const struct gradient_sink sink = { count_ready, cut_often, &next };
    int each = ops->graph_capture_begin ? 3 : 1;
    if (!halves || !whole)
        FAIL(STATUS_NOMEM, "out of memory");
    ops->copy_out(g->device, halves, g->reduce_buffer, bytes);
    for (int i = 0; i < 2 * each; i++) {
        bool reports = i >= each;
        next = 0;
        ops->zero(g->device, g->reduce_buffer, bytes);
        TRY(net_train(g->net, 0, g->reduce_buffer, reports ? &sink : NULL));
        ops->copy_out(g->device, whole, g->reduce_buffer, bytes);
        CHECK(memcmp(whole, halves, bytes) == 0, "%s: pass %d is another one", g->path, i);
        CHECK(!reports || next == g->model->params_count + 1, "%s: pass %d reported %d parameters", g->path, i, next);
    }
    CHECK(!g->device->no_graphs, "%s: the device cannot record it", g->path);
fail:
    free(halves);
    free(whole);
    return status;
}

static enum status step(struct golden *g)
{
    enum status status = STATUS_OK;
    struct model *m = g->model;
    float *grads = g->reduce_buffer + net_reduce_layout(m).gradients;
    double loss;
    TRY(net_forward(g->net, g->reduce_buffer));
    TRY(net_backward(g->net, 0, g->reduce_buffer));
    TRY(compare_passes(g));
    loss = net_loss(g->net);
    g->loss = fabs(loss / json_number_value(json_object_get(g->json, "loss")) - 1);
    TRY(compare_params(g, "gradients", grads, false, &g->gradients));
    g->device->ops->axpby_f32(g->device, 0.9f, m->running, 0.1f, g->reduce_buffer + REDUCE_BN_STATISTICS, m->running,
                              m->running_count);
    optimizer_step(g->optimizer, grads, 1, (float)number_of(g, "lr"));
    TRY(compare_params(g, "change", m->weights, true, &g->change));
    compare_running(g);
fail:
    return status;
}

static void finish(struct golden *g)
{
    if (g->device)
        g->device->ops->arena_finish(g->device, &g->arena);
    optimizer_destroy(g->optimizer);
    net_destroy(g->net);
    model_destroy(g->model);
    device_close(g->device);
    json_decref(g->json);
    free(g->host);
    free(g->start);
}

static void run_case(const char *path, const char *backend)
{
    enum status status = STATUS_OK;
    struct golden g = { .path = path };
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    TRY(build(&g, backend));
    TRY(set_state(&g));
    TRY(upload(&g));
    TRY(compare_logits(&g));
    TRY(step(&g));
    printf("%-4s %-29s logits %.1e  loss %.1e  gradients %.1e  change %.1e  running %.1e\n", backend, name, g.logits,
           g.loss, g.gradients, g.change, g.running);
    CHECK(g.logits < TOGETHER, "%s: logits off by %g", name, g.logits);
    CHECK(g.loss < TOGETHER, "%s: loss off by %g", name, g.loss);
    CHECK(g.gradients < TOGETHER, "%s: gradients off by %g", name, g.gradients);
    CHECK(g.change < TOGETHER, "%s: change off by %g", name, g.change);
    CHECK(g.running < TOGETHER, "%s: running statistics off by %g", name, g.running);
fail:
    CHECK(status == STATUS_OK, "%s: %s", name, status_message());
    finish(&g);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: test-golden-small BACKEND FILE.json...\n");
        return 2;
    }
    if (strcmp(argv[1], "cuda") == 0 && device_check_cuda(0) != STATUS_OK)
        return check_skip(status_message());
    for (int i = 2; i < argc; i++)
        run_case(argv[i], argv[1]);
    return check_done("golden-small");
}
