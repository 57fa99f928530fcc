/* csc_eval.c - the program csc-eval: accuracy of a checkpoint on a dataset, and how its CSC-layers code it.
 * The network is the checkpoint's; averaged weights are used where the run kept them; step sizes are converged
 * anew. Under mpirun the images are shared out between the ranks. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/dataset.h"
#include "trainer/checkpoint.h"
#include "trainer/evaluate.h"
#include "trainer/setup.h"

static const char usage[] =
    "usage: csc-eval CHECKPOINT|RUN --data DIR [options]\n"
    "\n"
    "Evaluates a checkpoint (of a run directory: the best one) on the dataset DIR, every image once.\n"
    "\n"
    "options:\n"
    "  --data DIR        a dataset made by csc-pack (required)\n"
    "  --json FILE       write the results as JSON (- for standard output)\n"
    "  --logits FILE     write the logits as safetensors: 'logits' (images, classes) and 'labels', in data order\n"
    "  --limit N         only the first N images\n"
    "  --batch N         images at a time (default: the run's eval.batch)\n"
    "  --threads N       threads per rank (default: the cores this process may use)\n"
    "  --help, --version\n"
    "\n"
    "exit codes: 0 done; 2 usage; 65 bad data; 71 out of memory; 74 I/O\n";

struct arguments {
    const char *checkpoint, *data, *json, *logits;
    char threads[64], batch[64];
    int64_t limit;
};

struct work {
    struct comm *comm;
    struct arguments a;
    struct checkpoint *checkpoint;
    struct config config;
    struct dataset *dataset;
    struct device *device;
    struct model *model;
    struct net *net;
    struct loader *loader;
    bool averaged;
    float *logits;
    int64_t images; /* to be evaluated */
    struct csc_diagnostics *diagnostics;
    struct evaluation result;
};

enum { DATA = 256, JSON, LOGITS, LIMIT, BATCH, THREADS, HELP, VERSION };

static const struct option options[] = {
    { "data", required_argument, NULL, DATA },     { "json", required_argument, NULL, JSON },
    { "logits", required_argument, NULL, LOGITS }, { "limit", required_argument, NULL, LIMIT },
    { "batch", required_argument, NULL, BATCH },   { "threads", required_argument, NULL, THREADS },
    { "help", no_argument, NULL, HELP },           { "version", no_argument, NULL, VERSION },
    { 0 },
};

static enum status parse_arguments(int argc, char **argv, struct arguments *a, bool *done)
{
    enum status status = STATUS_OK;
    int option;
    char *rest;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1)
        switch (option) {
        case DATA: a->data = optarg; break;
        case JSON: a->json = optarg; break;
        case LOGITS: a->logits = optarg; break;
        case LIMIT:
            a->limit = strtoll(optarg, &rest, 10);
            if (*rest || a->limit < 1)
                FAIL(STATUS_USAGE, "--limit=%s: a number of at least 1 is needed", optarg);
            break;
        case BATCH: snprintf(a->batch, sizeof a->batch, "eval.batch=%s", optarg); break;
        case THREADS: snprintf(a->threads, sizeof a->threads, "device.threads=%s", optarg); break;
        case HELP:
            fputs(usage, stdout);
            *done = true;
            return STATUS_OK;
        case VERSION:
            puts("csc-eval " CSC_VERSION);
            *done = true;
            return STATUS_OK;
        case ':': FAIL(STATUS_USAGE, "%s needs a value; see csc-eval --help", argv[optind - 1]);
        default: FAIL(STATUS_USAGE, "unknown option %s; see csc-eval --help", argv[optind - 1]);
        }
    if (optind + 1 != argc)
        FAIL(STATUS_USAGE, "one checkpoint or run directory is needed; see csc-eval --help");
    if (!a->data)
        FAIL(STATUS_USAGE, "--data is needed: a dataset made by csc-pack");
    a->checkpoint = argv[optind];
fail:
    return status;
}

/* The run's configuration, with what belongs to this machine decided anew. */
static enum status read_config(struct work *w)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *overrides[5] = { "device.threads=auto", "data.workers=auto", "device.kind=auto" };
    int count = 3;
    TRY(checkpoint_locate(w->a.checkpoint, path));
    TRY(checkpoint_open(&w->checkpoint, path));
    if (w->a.threads[0])
        overrides[0] = w->a.threads;
    if (w->a.batch[0])
        overrides[count++] = w->a.batch;
    TRY(config_parse(&w->config, w->checkpoint->path, w->checkpoint->config, strlen(w->checkpoint->config), overrides, count));
    TRY(config_resolve(&w->config, &(struct config_facts){ .classes = w->config.model.classes, .ranks = 1,
                                                           .cores = setup_cores(w->comm) }));
    TRY(setup_device(&w->device, &w->config));
    TRY(dataset_open(&w->dataset, w->a.data));
    TRY(setup_check_dataset(&w->config, w->dataset, w->a.data));
fail:
    return status;
}

/* Averages lie in optimizer.safetensors as ema.NAME. */
static enum status load_averages(struct work *w)
{
    enum status status = STATUS_OK;
    const struct safetensors *file = w->checkpoint->optimizer;
    struct model *m = w->model;
    for (int i = 0; i < m->params_count; i++) {
        char name[96];
        snprintf(name, sizeof name, "ema.%s", m->params[i].name);
        const struct safetensor *t = safetensors_find(file, name);
        if (!t || (size_t)safetensors_elements(t) != m->params[i].count)
            return STATUS_OK; /* the run kept none */
        TRY(model_set(m, m->weights, i, t->data));
    }
    for (int i = 0; i < model_running_tensors(m); i++) {
        char name[80], full[96];
        size_t offset;
        int channels;
        model_running_tensor(m, i, name, &offset, &channels);
        snprintf(full, sizeof full, "ema.%s", name);
        const struct safetensor *t = safetensors_find(file, full);
        if (!t || safetensors_elements(t) != channels)
            FAIL(STATUS_DATA, "%s: no tensor '%s' beside the averaged weights", w->checkpoint->path, full);
        m->device->ops->copy_in(m->device, m->running + offset, t->data, channels * sizeof(float));
    }
    w->averaged = true;
fail:
    return status;
}

static enum status prepare(struct work *w)
{
    enum status status = STATUS_OK;
    TRY(read_config(w));
    struct model_config config = setup_model_config(&w->config);
    TRY(model_create(&w->model, w->device, &config));
    TRY(model_allocate(w->model));
    TRY(net_create(&w->net, w->model, w->config.eval.batch, false));
    TRY(net_allocate(w->net));
    TRY(setup_load_weights(w->model, w->checkpoint->model, w->checkpoint->path));
    TRY(load_averages(w));
    model_normalize(w->model);
    TRY(model_converge_step_sizes(w->model));
    w->images = dataset_samples(w->dataset);
    if (w->a.limit > 0 && w->a.limit < w->images)
        w->images = w->a.limit;
    w->diagnostics = calloc(w->model->csc_count + 1, sizeof *w->diagnostics);
    if (w->a.logits && w->comm->size > 1)
        FAIL(STATUS_USAGE, "--logits: use one process, not %d ranks", w->comm->size);
    if (w->a.logits)
        w->logits = calloc((size_t)w->images * w->config.model.classes, sizeof *w->logits);
    if (!w->diagnostics || (w->a.logits && !w->logits))
        FAIL(STATUS_NOMEM, "out of memory for the results");
    struct loader_config loader = setup_loader_config(&w->config, w->dataset, false, w->comm);
    TRY(loader_create(&w->loader, &loader));
fail:
    return status;
}

/* ---- results ---- */

static enum status write_logits(const struct work *w)
{
    enum status status = STATUS_OK;
    const struct micro_batch *batch;
    int64_t *labels = calloc((size_t)w->images, sizeof *labels);
    if (!labels)
        FAIL(STATUS_NOMEM, "out of memory for the results");
    TRY(loader_seek(w->loader, 0, 0));
    for (;;) {
        TRY(loader_next(w->loader, &batch));
        if (!batch || (int64_t)batch->ids[0] >= w->images)
            break;
        for (int i = 0; i < batch->count && (int64_t)batch->ids[i] < w->images; i++)
            labels[batch->ids[i]] = batch->labels[i];
    }
    const struct safetensor tensors[] = {
        { .name = "logits", .dtype = SAFETENSORS_F32, .dims = 2, .shape = { w->images, w->config.model.classes },
          .data = w->logits },
        { .name = "labels", .dtype = SAFETENSORS_I64, .dims = 1, .shape = { w->images }, .data = labels },
    };
    TRY(safetensors_write(w->a.logits, tensors, 2));
fail:
    free(labels);
    return status;
}

static json_t *layers_json(const struct work *w)
{
    json_t *layers = json_array();
    for (int i = 0; i < w->model->csc_count; i++)
        json_array_append_new(layers, json_pack("{s:s, s:f, s:f, s:f, s:f}", "name", model_csc_name(w->model, i), "eta",
                                                (double)w->model->eta[i], "nonzeros", w->diagnostics[i].nonzeros,
                                                "residual", w->diagnostics[i].residual, "gap", w->diagnostics[i].gap));
    return layers;
}

static enum status write_json(const struct work *w)
{
    enum status status = STATUS_OK;
    const struct evaluation *r = &w->result;
    char *text = NULL, *arch = config_text(&w->config, "model.arch");
    json_t *root = json_pack("{s:s, s:I, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:b, s:o}", "checkpoint",
                             w->checkpoint->path, "step", (json_int_t)w->checkpoint->state.step, "arch", arch ? arch : "",
                             "data", w->a.data, "images", (json_int_t)r->images, "top1", r->top1, "top5", r->top5, "loss",
                             r->loss, "seconds", r->seconds, "averaged_weights", w->averaged, "layers", layers_json(w));
    if (root)
        text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (!text)
        FAIL(STATUS_NOMEM, "out of memory for the results");
    if (strcmp(w->a.json, "-") == 0)
        puts(text);
    else
        TRY(file_write(w->a.json, text, strlen(text)));
fail:
    free(text);
    free(arch);
    json_decref(root);
    return status;
}

static void print_result(const struct work *w)
{
    const struct evaluation *r = &w->result;
    printf("%s, step %lld%s\n", w->checkpoint->path, (long long)w->checkpoint->state.step,
           w->averaged ? ", averaged weights" : "");
    printf("%lld images: top-1 %.2f%%, top-5 %.2f%%, loss %.4f (%.0f img/s)\n", (long long)r->images, 100 * r->top1,
           100 * r->top5, r->loss, (double)r->images / (r->seconds > 0 ? r->seconds : 1));
    for (int i = 0; i < w->model->csc_count; i++)
        printf("  %-26s %5.1f%% of codes non-zero, residual %5.1f%%, duality gap %.3f\n", model_csc_name(w->model, i),
               100 * w->diagnostics[i].nonzeros, 100 * w->diagnostics[i].residual, w->diagnostics[i].gap);
}

static enum status report(const struct work *w)
{
    enum status status = STATUS_OK;
    if (w->comm->rank != 0)
        return STATUS_OK;
    if (!w->a.json || strcmp(w->a.json, "-") != 0)
        print_result(w);
    if (w->a.json)
        TRY(write_json(w));
    if (w->a.logits)
        TRY(write_logits(w));
fail:
    return status;
}

static void finish(struct work *w)
{
    loader_destroy(w->loader);
    net_destroy(w->net);
    model_destroy(w->model);
    device_close(w->device);
    dataset_close(w->dataset);
    checkpoint_close(w->checkpoint);
    config_finish(&w->config);
    free(w->logits);
    free(w->diagnostics);
}

int main(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct work w = { 0 };
    bool done = false;
    log_init("csc-eval", 0, 1);
    TRY(comm_create(&w.comm));
    log_init("csc-eval", w.comm->rank, w.comm->size);
    if (w.comm->rank != 0 && !freopen("/dev/null", "w", stdout))
        status_clear();
    TRY(comm_agree(w.comm, parse_arguments(argc, argv, &w.a, &done)));
    if (done)
        goto fail;
    TRY(comm_agree(w.comm, prepare(&w)));
    struct evaluate_options how = { .limit = w.a.limit, .total = w.images, .logits = w.logits,
                                    .diagnostics = w.diagnostics };
    TRY(evaluate(w.net, w.config.eval.batch, w.model, w.loader, w.comm, &how, &w.result));
    TRY(comm_agree(w.comm, report(&w)));
fail:
    if (status != STATUS_OK && comm_speaks(w.comm))
        log_failure();
    finish(&w);
    comm_destroy(w.comm);
    return status;
}
