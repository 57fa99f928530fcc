/* test_golden_steps.c - one SGD step of whole networks against float64 reference numbers (../shared/golden;
 * test_golden_small.c has cases that are always here): evaluation logits at the initial weights, loss, all gradients
 * together, and the change of the weights and running statistics.
 * usage: test-golden-steps FOLDER...   each holds ARCH-wWIDTH[-variant]/ cases */
#include <dirent.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "layers/backend/device.h"
#include "layers/net.h"
#include "tests/check.h"
#include "trainer/config/config.h"
#include "trainer/model/load_model.h"
#include "trainer/train/optimizer.h"

enum { SIDE = 32, RECORD = 1 + 3 * SIDE * SIDE };

struct golden {
    char folder[512];
    json_t *expect;
    struct config config;
    struct device *device;
    struct model *model;
    struct net *net;
    struct optimizer *optimizer;
    float *reduce_buffer, *images;
    int32_t *labels;
    int batch, classes;
    double logits_error, loss_error, gradient_error, change_error; /* relative norms */
};

static const char *text_of(const struct golden *g, const char *key)
{
    return json_string_value(json_object_get(g->expect, key));
}

static double number_of(const struct golden *g, const char *key)
{
    return json_number_value(json_object_get(g->expect, key));
}

static enum status read_expect(struct golden *g)
{
    enum status status = STATUS_OK;
    char path[600];
    json_error_t error;
    snprintf(path, sizeof path, "%s/expect.json", g->folder);
    g->expect = json_load_file(path, 0, &error);
    if (!g->expect)
        FAIL(STATUS_DATA, "%s: %s", path, error.text);
    g->batch = (int)number_of(g, "batch");
    g->classes = (int)number_of(g, "classes");
fail:
    return status;
}

/* The configuration that csc-train would be given. */
static enum status configure(struct golden *g)
{
    enum status status = STATUS_OK;
    char yaml[2048], eta[64] = "auto";
    if (json_is_number(json_object_get(g->expect, "eta")))
        snprintf(eta, sizeof eta, "%.17g", number_of(g, "eta"));
    int bytes = snprintf(yaml, sizeof yaml,
                         "run: {dir: none}\n"
                         "model: {arch: %s, classes: %d, width: %d, shortcut: %s, init_from: %s/init.safetensors}\n"
                         "csc: {steps: %d, lambda: %.17g, mu: %.17g, step_size: %s}\n"
                         "data: {train: none, augment: none, shuffle: false, image_size: 32}\n"
                         "train: {steps: 1, batch: %d, lr: %.17g, momentum: %.17g, weight_decay: %.17g, nesterov: %s, "
                         "schedule: {kind: constant}}\n",
                         text_of(g, "arch"), g->classes, (int)number_of(g, "width"),
                         json_is_true(json_object_get(g->expect, "shortcut")) ? "true" : "false", g->folder,
                         (int)number_of(g, "fista_steps"), number_of(g, "lam"), number_of(g, "mu"), eta, g->batch,
                         number_of(g, "lr"), number_of(g, "momentum"), number_of(g, "weight_decay"),
                         json_is_true(json_object_get(g->expect, "nesterov")) ? "true" : "false");
    TRY(config_parse(&g->config, "golden", yaml, (size_t)bytes, NULL, 0));
    TRY(config_resolve(&g->config,
                       &(struct config_facts){ .classes = g->classes, .image_size = SIDE, .ranks = 1, .cores = 2 }));
fail:
    return status;
}

static enum status read_batch(struct golden *g)
{
    enum status status = STATUS_OK;
    char path[600], *data = NULL;
    size_t bytes;
    snprintf(path, sizeof path, "%s/data_batch_1.bin", g->folder);
    TRY(file_read(path, 1 << 20, &data, &bytes));
    if (bytes != (size_t)g->batch * RECORD)
        FAIL(STATUS_DATA, "%s: %zu bytes", path, bytes);
    g->images = malloc((size_t)g->batch * 3 * SIDE * SIDE * sizeof *g->images);
    g->labels = malloc(g->batch * sizeof *g->labels);
    for (int n = 0; n < g->batch; n++) {
        const unsigned char *record = (const unsigned char *)data + (size_t)n * RECORD;
        g->labels[n] = record[0];
        for (int p = 0; p < SIDE * SIDE; p++)
            for (int c = 0; c < 3; c++)
                g->images[((size_t)n * SIDE * SIDE + p) * 3 + c] =
                    (float)((record[1 + c * SIDE * SIDE + p] / 255.0 - g->config.data.mean[c]) / g->config.data.std[c]);
    }
fail:
    free(data);
    return status;
}

static enum status build(struct golden *g, const char *backend)
{
    enum status status = STATUS_OK;
    struct model_config model = config_to_model(&g->config);
    struct optimizer_config optimizer = config_to_optimizer(&g->config);
    TRY(device_open(&g->device, backend, PRECISION_FP32, 2));
    TRY(model_create(&g->model, g->device, &model));
    TRY(model_allocate(g->model));
    TRY(net_create(&g->net, g->model, g->batch, NET_TRAINING));
    TRY(net_allocate(g->net));
    TRY(optimizer_create(&g->optimizer, g->model, &optimizer));
    TRY(model_init(g->model, 1));
    TRY(load_model_init(g->model, g->config.model.init_from, false));
    TRY(model_converge_step_sizes(g->model));
    g->reduce_buffer = calloc(net_reduce_layout(g->model).count, sizeof *g->reduce_buffer);
fail:
    return status;
}

struct difference {
    double error, size;
};

static void compare(struct difference *d, const float *got, const float *want, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double e = (double)got[i] - want[i], s = from ? (double)want[i] - from[i] : want[i];
        d->error += e * e;
        d->size += s * s;
    }
}

static double relative(const struct difference *d)
{
    return sqrt(d->error / d->size);
}

static double compare_logits(const struct golden *g, const float *logits)
{
    struct difference d = { 0 };
    const json_t *rows = json_object_get(g->expect, "eval_logits");
    for (int n = 0; n < g->batch; n++)
        for (int k = 0; k < g->classes; k++) {
            double want = json_number_value(json_array_get(json_array_get(rows, n), k));
            double e = logits[n * g->classes + k] - want;
            d.error += e * e;
            d.size += want * want;
        }
    return relative(&d);
}

/* All tensors of a file together, against a flat buffer; `from` (a file, or NULL): compare changes. */
static enum status compare_file(const struct golden *g, const char *name, const char *from, const float *flat,
                                bool running, double *error)
{
    enum status status = STATUS_OK;
    struct safetensors *want = NULL, *start = NULL;
    struct difference d = { 0 };
    char path[600];
    float *got = malloc(g->model->count * sizeof *got);
    snprintf(path, sizeof path, "%s/%s", g->folder, name);
    TRY(safetensors_open(&want, path));
    snprintf(path, sizeof path, "%s/%s", g->folder, from ? from : name);
    TRY(safetensors_open(&start, path));
    for (int i = 0; i < g->model->params_count; i++) {
        const struct param *p = &g->model->params[i];
        const struct safetensor *w = safetensors_find(want, p->name), *s = safetensors_find(start, p->name);
        if (!w || !s || (size_t)safetensors_elements(w) != p->count)
            FAIL(STATUS_DATA, "%s: no %s", name, p->name);
        TRY(model_get(g->model, flat, i, got));
        compare(&d, got, w->data, from ? s->data : NULL, p->count);
    }
    for (int i = 0; running && i < model_running_tensors(g->model); i++) {
        char tensor[80];
        size_t offset;
        int channels;
        model_running_tensor(g->model, i, tensor, &offset, &channels);
        const struct safetensor *w = safetensors_find(want, tensor), *s = safetensors_find(start, tensor);
        if (!w || !s)
            FAIL(STATUS_DATA, "%s: no %s", name, tensor);
        compare(&d, g->model->running + offset, w->data, from ? s->data : NULL, channels);
    }
    *error = relative(&d);
fail:
    safetensors_close(want);
    safetensors_close(start);
    free(got);
    return status;
}

static enum status step(struct golden *g)
{
    enum status status = STATUS_OK;
    struct reduce_layout layout = net_reduce_layout(g->model);
    float *logits = malloc((size_t)g->batch * g->classes * sizeof *logits), *losses = malloc(g->batch * sizeof *losses);
    float *grads = g->reduce_buffer + layout.gradients;
    double loss;
    TRY(net_upload(g->net, g->images, g->labels, g->batch));
    TRY(net_infer(g->net, NULL));
    TRY(net_losses(g->net, 0, losses, logits));
    g->logits_error = compare_logits(g, logits);
    TRY(net_forward(g->net, g->reduce_buffer));
    TRY(net_backward(g->net, 0, g->reduce_buffer));
    loss = net_loss(g->net);
    g->loss_error = fabs(loss / number_of(g, "loss") - 1);
    TRY(compare_file(g, "grads.safetensors", NULL, grads, false, &g->gradient_error));
    g->device->ops->axpby_f32(g->device, 0.9f, g->model->running, 0.1f, g->reduce_buffer + REDUCE_BN_STATISTICS,
                              g->model->running, g->model->running_count);
    optimizer_step(g->optimizer, grads, 1, (float)number_of(g, "lr"));
    TRY(compare_file(g, "after.safetensors", "init.safetensors", g->model->weights, true, &g->change_error));
fail:
    free(logits);
    free(losses);
    return status;
}

static void finish(struct golden *g)
{
    optimizer_destroy(g->optimizer);
    net_destroy(g->net);
    model_destroy(g->model);
    device_close(g->device);
    config_finish(&g->config);
    json_decref(g->expect);
    free(g->reduce_buffer);
    free(g->images);
    free(g->labels);
}

/* Gradients may be off by percents in two cases: a code on the threshold that falls to the other side. */
static void run_case(const char *root, const char *name, const char *backend, int *loose)
{
    struct golden g = { 0 };
    enum status status = STATUS_OK;
    snprintf(g.folder, sizeof g.folder, "%s/%s", root, name);
    TRY(read_expect(&g));
    TRY(configure(&g));
    TRY(read_batch(&g));
    TRY(build(&g, backend));
    TRY(step(&g));
    bool automatic = !json_is_number(json_object_get(g.expect, "eta")) && strncmp(text_of(&g, "arch"), "sdnet", 5) == 0;
    double tight = automatic ? 1e-4 : 1e-5;
    printf("%-4s %-32s logits %.1e  loss %.1e  gradient %.1e  change %.1e\n", backend, name, g.logits_error,
           g.loss_error, g.gradient_error, g.change_error);
    CHECK(g.logits_error < tight, "%s: logits off by %g", name, g.logits_error);
    CHECK(g.loss_error < tight, "%s: loss off by %g", name, g.loss_error);
    CHECK(g.gradient_error < 1e-1, "%s: gradient off by %g", name, g.gradient_error);
    CHECK(g.change_error < 1e-1, "%s: change off by %g", name, g.change_error);
    *loose += g.gradient_error >= 1e-4 || g.change_error >= 1e-4;
fail:
    CHECK(status == STATUS_OK, "%s: %s", name, status_message());
    finish(&g);
}

static int run_folder(const char *root, const char *backend)
{
    struct dirent **names;
    int count = scandir(root, &names, NULL, alphasort), cases = 0, loose = 0;
    for (int i = 0; i < count; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s/expect.json", root, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && file_exists(path)) {
            run_case(root, names[i]->d_name, backend, &loose);
            cases++;
        }
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    /* in the plain backend's roundings one more code falls to the other side */
    CHECK(loose <= (strcmp(backend, "ref") == 0 ? 3 : 2),
          "%d of %d cases have a gradient or change off by more than 1e-4", loose, cases);
    return cases;
}

int main(int argc, char **argv)
{
    int cases = 0;
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "cuda") == 0 && device_check_cuda(0) != STATUS_OK)
        return check_skip(status_message());
    for (int i = 2; i < argc; i++)
        cases += run_folder(argv[i], argv[1]);
    if (!cases)
        return check_skip("the golden steps are not here (set CSC_SHARED)");
    return check_done("golden steps");
}
