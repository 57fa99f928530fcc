/* csc_viz.c - the program csc-viz: pictures and a report of a network's atoms and of what its layers keep of
 * images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/file.h"
#include "base/log.h"
#include "base/options.h"
#include "comm/create.h"
#include "trainer/eval/evaluate.h"
#include "trainer/model/load_model.h"
#include "trainer/viz/viz.h"

static const char usage[] =
    "usage: csc-viz CHECKPOINT|RUN --data DIR --out DIR [options]\n"
    "\n"
    "Shows a checkpoint, or the best checkpoint of a run, on images of a dataset: its atoms, images beside their\n"
    "reconstructions from several layers, the sparsity and the quality of its codes, and its training curves.\n"
    "Writes OUT/report.html, one file with everything in it, and the pictures beside it as PNG files.\n"
    "\n"
    "options:\n"
    "  --data DIR        a dataset made by csc-pack (required)\n"
    "  --out DIR         where to write; the folder is created if it does not exist (required)\n"
    "  --images N        number of images shown (default 8)\n"
    "  --limit N         number of images measured, from the first on (default 64)\n"
    "  --layer NAME      a layer to reconstruct from, such as layer2.0.conv1; may be repeated (default: the first\n"
    "                    layer and the last one of each stage)\n"
    "  --noise SIGMA     standard deviation of the noise in the noisy images, for values in 0..1 (default 0.1)\n"
    "  --steps N         FISTA steps instead of the run's; 20 or more restore amplitudes\n"
    "  --lambda VALUE    lambda instead of the run's\n"
    "  --truth FILE      truth.safetensors of csc-pack synth: count the true atoms that the first layer found\n"
    "  --json FILE       write the results as JSON (- for standard output)\n"
    "  --threads N       number of threads (default: the cores this process may use)\n"
    "  --device cpu|cuda|auto   where to compute, in fp32; auto (default) is a GPU if there is one\n"
    "  --help, --version\n"
    "\n"
    "exit codes: 0 done; 2 usage; 65 bad data; 69 the GPU was lost; 71 out of memory; 74 I/O\n";

static enum status add_layer_option(void *context, const char *text)
{
    enum status status = STATUS_OK;
    struct viz_options *a = context;
    if (a->layers_count == VIZ_MAX_LAYERS)
        FAIL(STATUS_USAGE, "--layer: at most %d layers are allowed", VIZ_MAX_LAYERS);
    a->layers[a->layers_count++] = text;
fail:
    return status;
}

static enum status parse_arguments(int argc, char **argv, struct viz_options *a, bool *done)
{
    enum status status = STATUS_OK;
    int first;
    *a = (struct viz_options){ .images = 8, .limit = 64, .noise = 0.1 };
    const struct option_row rows[] = {
        { "data", .text = &a->data },
        { "out", .text = &a->out },
        { "images", .integer = &a->images, .low = 1, .high = VIZ_MAX_IMAGES },
        { "limit", .integer64 = &a->limit, .low = 1, .high = 0x1p63 },
        { "layer", .parse = add_layer_option },
        { "noise", .number = &a->noise, .low = 0, .high = 10 },
        { "steps", .setting = a->steps, .key = "csc.steps" },
        { "lambda", .setting = a->lambda, .key = "csc.lambda" },
        { "truth", .text = &a->truth },
        { "json", .text = &a->json },
        { "threads", .setting = a->machine.threads, .key = "device.threads" },
        { "device", .setting = a->machine.kind, .key = "device.kind" },
        { .name = NULL },
    };
    TRY(options_check(argv));
    TRY(options_parse(rows, a, argc, argv, "csc-viz", usage, &first, done));
    if (*done)
        return STATUS_OK;
    if (first + 1 != argc)
        FAIL(STATUS_USAGE, "one checkpoint or run directory is needed; see csc-viz --help");
    if (!a->data || !a->out)
        FAIL(STATUS_USAGE, "--data and --out are needed; see csc-viz --help");
    a->path = argv[first];
fail:
    return status;
}

/* ---- preparation ---- */

static void add_layer(struct viz *v, int node)
{
    for (int i = 0; i < v->layers_count; i++)
        if (v->layers[i] == node)
            return;
    v->layers[v->layers_count++] = node;
}

/* Chooses the layers to reconstruct from: those of --layer, or the default ones. */
static enum status choose_layers(struct viz *v)
{
    enum status status = STATUS_OK;
    const struct model *m = v->trained.model;
    while (m->nodes[v->first].in != 0)
        v->first++;
    for (int i = 0; i < v->options.layers_count; i++) {
        int node = explain_node(m, v->options.layers[i]);
        if (node < 0)
            FAIL(STATUS_USAGE, "--layer=%s: this network has no such convolution or CSC-layer", v->options.layers[i]);
        add_layer(v, node);
    }
    if (v->layers_count)
        return status;
    v->layers_count = explain_default_nodes(m, v->layers);
fail:
    return status;
}

static enum status open_loader(struct viz *v, const struct comm *comm)
{
    struct loader_config config = config_to_loader(&v->trained.config, v->trained.dataset, false, comm);
    config.batch = config.micro_batch = 1;
    config.label_map = v->trained.label_map;
    return loader_create(&v->loader, &config);
}

static enum status prepare(struct viz *v, const struct comm *comm)
{
    enum status status = STATUS_OK;
    char *overrides[2];
    int count = 0;
    if (v->options.json && strcmp(v->options.json, "-") == 0)
        log_info_to_stderr();
    if (comm->size > 1)
        FAIL(STATUS_USAGE, "csc-viz runs as one process, not as %d ranks", comm->size);
    if (v->options.steps[0])
        overrides[count++] = v->options.steps;
    if (v->options.lambda[0])
        overrides[count++] = v->options.lambda;
    TRY(trained_model_open(&v->trained, v->options.path, v->options.data, overrides, count, &v->options.machine, comm));
    int64_t samples = dataset_samples(v->trained.dataset);
    v->n = v->options.images = (int)(v->options.images < samples ? v->options.images : samples);
    v->size = v->trained.config.data.image_size;
    TRY(choose_layers(v));
    TRY(file_make_folders(v->options.out));
    TRY(net_create(&v->net, v->trained.model, v->n, NET_TRAINING));
    TRY(net_allocate(v->net));
    TRY(explain_create(&v->explain, v->net, v->trained.model, v->n, v->trained.device->threads));
    TRY(open_loader(v, comm));
    size_t floats = (size_t)v->n * v->size * v->size * 3;
    v->images = malloc(floats * sizeof *v->images);
    v->noisy = malloc(floats * sizeof *v->noisy);
    v->back = malloc(floats * sizeof *v->back);
    v->diagnostics = calloc(v->trained.model->csc_count + 1, sizeof *v->diagnostics);
    if (!v->images || !v->noisy || !v->back || !v->diagnostics)
        FAIL(STATUS_NOMEM, "out of memory for the images");
fail:
    return status;
}

static void print_result(const struct viz *v)
{
    const struct model *m = v->trained.model;
    char missing[64];
    evaluate_missing_text(v->missing, missing);
    printf("%s, step %lld, %d FISTA steps, lambda %g; %lld images%s\n", v->trained.checkpoint->path,
           (long long)v->trained.checkpoint->state.step, v->trained.config.csc.steps, v->trained.config.csc.lambda,
           (long long)v->measured, missing);
    for (int i = 0; i < m->csc_count; i++)
        printf("  %-26s %5.1f%% of codes non-zero, residual %5.1f%%, duality gap %.3f\n", model_csc_name(m, i),
               100 * v->diagnostics[i].nonzeros, 100 * v->diagnostics[i].residual, v->diagnostics[i].gap);
    for (int i = 0; i < v->layers_count; i++)
        printf("  reconstructed from %-16s PSNR %.2f dB\n", m->nodes[v->layers[i]].name, v->psnr[i]);
    for (int i = 0; i < VIZ_NOISE_LEVELS; i++)
        printf("  noise %.2f: image %.2f dB, A z %.2f dB, scaled %.2f dB\n", v->levels[i].sigma, v->levels[i].input,
               v->levels[i].unscaled, v->levels[i].scaled);
    if (v->recovery.atoms)
        printf("  true atoms found by %s: %d of %d (mean cosine %.3f, best %.3f)\n", m->nodes[v->first].name,
               v->recovery.found, v->recovery.atoms, v->recovery.mean, v->recovery.best);
    printf("%s/report.html: %d pictures\n", v->options.out, v->pictures_count);
}

static void finish(struct viz *v)
{
    loader_destroy(v->loader);
    explain_destroy(v->explain);
    net_destroy(v->net);
    trained_model_finish(&v->trained);
    for (int i = 0; i < v->pictures_count; i++)
        free(v->pictures[i].png);
    free(v->pictures);
    free(v->images);
    free(v->noisy);
    free(v->back);
    free(v->diagnostics);
}

int main(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct comm *comm = NULL;
    struct viz v = { 0 };
    bool done = false;
    affinity_limit_spinning(argv);
    log_init("csc-viz", 0, 1);
    log_stdout_is_results();
    TRY(parse_arguments(argc, argv, &v.options, &done));
    if (done)
        goto fail;
    TRY(comm_create(&comm));
    TRY(prepare(&v, comm));
    TRY(viz_measure(&v));
    if (v.options.truth)
        TRY(viz_compare_truth(&v));
    TRY(viz_draw(&v));
    TRY(viz_write_report(&v));
    if (!v.options.json || strcmp(v.options.json, "-") != 0)
        print_result(&v);
    if (v.options.json)
        TRY(viz_write_json(&v));
fail:
    status = log_finish(status);
    if (status != STATUS_OK && comm_should_report(comm))
        log_failure();
    finish(&v);
    comm_destroy(comm);
    return status;
}
