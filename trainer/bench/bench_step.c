/* bench_step.c - csc-bench step and layers: times training steps of a network on random images, as a whole or by
 * operation, and its convolutions alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/affinity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/philox.h"
#include "base/tuned.h"
#include "layers/backend/device.h"
#include "layers/net.h"
#include "trainer/bench/bench.h"
#include "trainer/bench/bench_trace.h"
#include "trainer/model/upload.h"
#include "trainer/train/optimizer.h"

#define NETWORK_HELP                                                                                   \
    "  --arch NAME         resnet18, sdnet18, sdnet18-all, or with 34 or 50 (default sdnet18-all)\n"   \
    "  --width N           channels of the first layer (default 64)\n"                                 \
    "  --size N            side of the images in pixels (default 32; above 64 with ImageNet's stem)\n" \
    "  --batch N           images in a batch (default 64)\n"                                           \
    "  --backward KIND     unrolled, one-step or implicit (default unrolled)\n"                        \
    "  --device KIND       cpu or cuda, the first GPU (default cpu)\n"                                 \
    "  --precision NAME    fp32, bf16, or tf32 on a GPU (default fp32)\n"                              \
    "  --plans FILE        on a GPU: read the fastest plans of convolutions from FILE if it exists,\n" \
    "                      measure the missing ones, and write them there, not to the user's cache\n"  \
    "  --candidates FILE   on a GPU: append every plan that is measured to FILE, with milliseconds,\n" \
    "                      TFLOP/s and the kernel's name\n"                                            \
    "  --threads N         number of threads (default: the cores this process may use)\n"

static const char step_help[] =
    "Trains a network on random images as csc-train does on one rank: forward, loss, backward, optimizer,\n"
    "projection, power iteration. Prints the median time of a step.\n\n" NETWORK_HELP
    "  --steps N           timed steps (default 5), after two for warm-up\n"
    "  --trace             then run the same number of steps again, one operation at a time, and print for each\n"
    "                      its time, its share, GFLOP/s, the bytes that it moved (for a convolution on the CPU\n"
    "                      a lower bound) beside the minimum (each operand once), GB/s, and its speed as a share\n"
    "                      of that of a large matrix product or of a copy\n"
    "  --profile           record the timed steps, and nothing else, in a profiler, each as a range named step.\n"
    "                      Needs a GPU; for example under\n"
    "                      nsys profile --capture-range=cudaProfilerApi csc-bench step --device cuda --profile\n"
    "  --json FILE         write the results (- for standard output)\n"
    "  --help              print this text\n";

static const char layers_help[] =
    "Times the convolutions of a network, each shape once: forward, adjoint (the gradient of its input) and\n"
    "gradient (of its weights). GFLOP/s count a direct sum, so Winograd's may exceed the peak.\n\n" NETWORK_HELP
    "  --steps N           runs of each (default 5), after one for warm-up\n"
    "  --json FILE         write the results (- for standard output)\n"
    "  --help              print this text\n";

struct arguments {
    const char *arch, *json, *device, *plans, *candidates;
    int width, size, batch, threads, steps;
    enum csc_backward backward;
    enum precision precision;
    bool trace, profile;
};

static enum status parse(int argc, char **argv, struct arguments *a)
{
    static const char *const backwards[] = { "unrolled", "one-step", "implicit", NULL };
    static const char *const devices[] = { "cpu", "cuda", NULL };
    static const char *const precisions[] = { "fp32", "tf32", "bf16", NULL };
    enum status status = STATUS_OK;
    int first, device = 0;
    bool step = strcmp(argv[0], "step") == 0;
    *a = (struct arguments){
        .arch = "sdnet18-all", .width = 64, .size = 32, .batch = 64, .threads = affinity_cores(), .steps = 5
    };
    const struct option_row rows[] = {
        { "arch", .text = &a->arch },
        { "width", .integer = &a->width, .low = 4, .high = 4096 },
        { "size", .integer = &a->size, .low = 4, .high = 8192 },
        { "batch", .integer = &a->batch, .low = 1, .high = 65536 },
        { "backward", .choice = (int *)&a->backward, .names = backwards },
        { "device", .choice = &device, .names = devices },
        { "precision", .choice = (int *)&a->precision, .names = precisions },
        { "threads", .integer = &a->threads, .low = 1, .high = 1024 },
        { "steps", .integer = &a->steps, .low = 1, .high = 100000 },
        { "trace", .on = &a->trace },
        { "profile", .on = &a->profile },
        { "plans", .text = &a->plans },
        { "candidates", .text = &a->candidates },
        { "json", .text = &a->json },
        { .name = NULL },
    };
    TRY(options_parse(rows, NULL, argc, argv, step ? "csc-bench step" : "csc-bench layers",
                      step ? step_help : layers_help, &first, NULL));
    if (first != argc)
        FAIL(STATUS_USAGE, "%s: unexpected argument; see csc-bench %s --help", argv[first], argv[0]);
    a->device = devices[device];
    if ((a->plans || a->candidates) && strcmp(a->device, "cuda") != 0)
        FAIL(STATUS_USAGE, "--plans and --candidates need --device cuda");
    if (a->plans || a->candidates)
        TRY(device_plan_files(a->plans, a->candidates));
fail:
    return status;
}

/* ---- a network and what a step of it needs ---- */

struct bench {
    struct device *device;
    struct model *model;
    struct net *net;
    struct arena arena;
    float *reduce_buffer; /* on the device */
    struct optimizer *optimizer;
    struct tuned *tuned;
    void *images; /* on the host: floats, or raw bytes */
    int32_t *labels;
    struct pixel_scale scale;
    struct micro_batch batch; /* has images and labels */
    size_t count;             /* floats of reduce_buffer */
    bool prefetched;          /* the upload of the next step's images has begun */
};

static enum status parse_network(const struct arguments *a, struct model_config *config)
{
    static const char *const archs[] = { "resnet18", "resnet34",    "resnet50",    "sdnet18",     "sdnet34",
                                         "sdnet50",  "sdnet18-all", "sdnet34-all", "sdnet50-all", NULL };
    static const int depths[] = { 18, 34, 50 };
    enum status status = STATUS_OK;
    int arch;
    TRY(options_choice("arch", a->arch, archs, &arch));
    *config = (struct model_config){ .depth = depths[arch % 3],
                                     .sparse_stem = arch >= 3,
                                     .all = arch >= 6,
                                     .imagenet_stem = a->size > 64,
                                     .shortcut = true,
                                     .width = a->width,
                                     .classes = a->size > 64 ? 1000 : 10,
                                     .image_size = a->size,
                                     .seed = 1,
                                     .csc = {
                                         .steps = 2, .lambda = 0.1f, .nonnegative = true, .backward = a->backward } };
fail:
    return status;
}

static void assign_memory(struct bench *b)
{
    b->reduce_buffer = arena_take(&b->arena, b->count * sizeof *b->reduce_buffer);
}

static size_t image_bytes(const struct arguments *a)
{
    return (size_t)a->batch * a->size * a->size * 3 * sizeof(float);
}

/* Fills a raw batch in the loader's form. */
static void fill_raw(struct bench *b, const struct arguments *a, struct philox *stream)
{
    static const double mean[] = { 0.5, 0.5, 0.5 }, std[] = { 0.25, 0.25, 0.25 };
    struct image_crop *crops = b->images;
    size_t one = (size_t)a->size * a->size * 3, head = a->batch * sizeof *crops, bytes = head + a->batch * one;
    for (int i = 0; i < a->batch; i++)
        crops[i] = (struct image_crop){ head + i * one, a->size, a->size, 0, 0, a->size, a->size, false };
    for (size_t i = head; i < bytes; i++)
        ((uint8_t *)b->images)[i] = (uint8_t)philox_u32(stream);
    b->scale = pixel_scale(mean, std);
    b->batch.raw = b->images;
    b->batch.raw_bytes = bytes;
    b->batch.scale = &b->scale;
}

static enum status fill_images(struct bench *b, const struct arguments *a)
{
    enum status status = STATUS_OK;
    struct philox stream;
    size_t count = image_bytes(a) / sizeof(float);
    b->images = malloc(image_bytes(a));
    b->labels = malloc(a->batch * sizeof *b->labels);
    if (!b->images || !b->labels)
        FAIL(STATUS_NOMEM, "out of memory for the images");
    philox_init(&stream, 1, PHILOX_DOMAIN_INIT, 0);
    b->batch = (struct micro_batch){ .labels = b->labels, .count = a->batch };
    if (upload_takes_bytes(b->device)) {
        fill_raw(b, a, &stream);
    } else {
        b->batch.images = b->images;
        for (size_t i = 0; i < count; i++)
            ((float *)b->images)[i] = (float)philox_normal(&stream);
    }
    for (int i = 0; i < a->batch; i++)
        b->labels[i] = (int32_t)philox_below(&stream, (uint32_t)b->model->config.classes);
fail:
    return status;
}

static enum status open_bench(struct bench *b, const struct arguments *a)
{
    enum status status = STATUS_OK;
    struct model_config config;
    const struct optimizer_config sgd = {
        .momentum = 0.9f, .weight_decay = 5e-4f, .nesterov = true, .decay_norm_and_bias = true
    };
    TRY(parse_network(a, &config));
    TRY(device_open(&b->device, a->device, a->precision, a->threads));
    if (a->profile && !b->device->ops->profile)
        FAIL(STATUS_USAGE, "--profile needs --device cuda");
    TRY(tuned_create(&b->tuned));
    b->device->tuned = b->tuned;
    TRY(model_create(&b->model, b->device, &config));
    TRY(model_allocate(b->model));
    TRY(net_create(&b->net, b->model, a->batch, NET_TRAINING));
    TRY(net_allocate(b->net));
    b->count = net_reduce_layout(b->model).count;
    assign_memory(b);
    TRY(b->device->ops->arena_allocate(b->device, &b->arena));
    assign_memory(b);
    TRY(optimizer_create(&b->optimizer, b->model, &sgd));
    TRY(model_init(b->model, 1));
    for (int i = 0; b->model->power && i < b->model->csc_count; i++) /* no convergence: it does not change the speed */
        TRY(csc_power_start(b->model->power[i], 1, (uint64_t)i));
    TRY(fill_images(b, a));
    if (b->device->ops->register_host_memory)
        TRY(b->device->ops->register_host_memory(b->device, b->images, image_bytes(a)));
fail:
    return status;
}

static void close_bench(struct bench *b)
{
    optimizer_destroy(b->optimizer);
    if (b->device && b->device->ops->unregister_host_memory && b->images)
        b->device->ops->unregister_host_memory(b->device, b->images);
    if (b->device)
        b->device->ops->arena_finish(b->device, &b->arena);
    net_destroy(b->net);
    model_destroy(b->model);
    device_close(b->device);
    tuned_destroy(b->tuned);
    free(b->images);
    free(b->labels);
}

/* A step as in csc-train, with SGD on one rank and one micro-batch. */
static enum status step(struct bench *b)
{
    enum status status = STATUS_OK;
    const struct backend *ops = b->device->ops;
    struct reduce_layout layout = net_reduce_layout(b->model);
    size_t bytes;
    const void *memory = upload_memory(&b->batch, net_image_floats(b->net), &bytes);
    TRY(model_advance_step_sizes(b->model, 2));
    ops->zero(b->device, b->reduce_buffer, layout.count * sizeof *b->reduce_buffer);
    if (ops->prefetch_to_device && !b->prefetched)
        ops->prefetch_to_device(b->device, memory, bytes);
    TRY(upload_batch(b->net, &b->batch, b->batch.count));
    TRY(net_train(b->net, 0, b->reduce_buffer, NULL));
    b->prefetched = ops->prefetch_to_device != NULL;
    if (b->prefetched)
        ops->prefetch_to_device(b->device, memory, bytes);
    if (!isfinite(net_loss(b->net)))
        FAIL(STATUS_NONFINITE, "the loss on random images is not finite");
    optimizer_step(b->optimizer, b->reduce_buffer + layout.gradients, 1, 1e-3f);
fail:
    return status;
}

/* ---- csc-bench step ---- */

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double peak_memory_mb(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024.0;
}

/* Repeats the steps with every operation timed; *total is their time in seconds. */
static enum status trace_steps(struct bench *b, const struct arguments *a, double *total)
{
    enum status status = STATUS_OK;
    double began;
    trace_start(b->device);
    began = clock_seconds();
    for (int i = 0; i < a->steps; i++)
        TRY(step(b));
    if (b->device->ops->synchronize)
        b->device->ops->synchronize(b->device);
    *total = clock_seconds() - began;
fail:
    trace_stop(b->device);
    return status;
}

static enum status add_trace(struct bench *b, const struct arguments *a, json_t *report)
{
    enum status status = STATUS_OK;
    struct trace_peaks peaks;
    int count;
    double total, traced = 0, convolutions = 0, moved = 0, minimum = 0;
    json_t *list = json_array();
    TRY(trace_steps(b, a, &total));
    const struct trace_line *lines = trace_lines(&count);
    TRY(trace_measure_peaks(b->device, &peaks));
    trace_print_head();
    for (int i = 0; i < count; i++) {
        trace_print(&lines[i], a->steps, total, &peaks);
        json_array_append_new(list, trace_json(&lines[i], a->steps, total, &peaks));
        traced += lines[i].seconds;
        convolutions += lines[i].flops > 0 ? lines[i].seconds : 0;
        moved += lines[i].moved / a->steps;
        minimum += lines[i].minimum / a->steps;
    }
    printf("peaks: %.1f GFLOP/s, %.1f GB/s; convolutions %.1f%% of a step, not traced %.1f%%; "
           "%.1f MB moved, at least %.1f\n",
           1e-9 * peaks.flops, 1e-9 * peaks.bytes, 100 * convolutions / total, 100 * (1 - traced / total), 1e-6 * moved,
           1e-6 * minimum);
    json_object_set_new(report, "peak_gflop_s", json_real(1e-9 * peaks.flops));
    json_object_set_new(report, "peak_gb_s", json_real(1e-9 * peaks.bytes));
    json_object_set_new(report, "moved_mb", json_real(1e-6 * moved));
    json_object_set_new(report, "least_mb", json_real(1e-6 * minimum));
    json_object_set_new(report, "convolutions_share", json_real(convolutions / total));
    json_object_set(report, "operations", list);
fail:
    json_decref(list);
    return status;
}

/* Does nothing without --profile. */
static void mark_profile(const struct bench *b, const struct arguments *a, enum profile_event what)
{
    if (a->profile)
        b->device->ops->profile(b->device, what);
}

static enum status time_steps(struct bench *b, const struct arguments *a, double *seconds, double *cpu_seconds)
{
    enum status status = STATUS_OK;
    for (int i = -2; i < a->steps; i++) {
        if (i == 0) {
            mark_profile(b, a, PROFILE_START);
            *cpu_seconds = clock_process_seconds();
        }
        if (i >= 0)
            mark_profile(b, a, PROFILE_STEP_START);
        double began = clock_seconds();
        TRY(step(b));
        if (b->device->ops->synchronize)
            b->device->ops->synchronize(b->device);
        if (i >= 0) {
            seconds[i] = clock_seconds() - began;
            mark_profile(b, a, PROFILE_STEP_END);
        }
    }
    mark_profile(b, a, PROFILE_STOP);
    *cpu_seconds = (clock_process_seconds() - *cpu_seconds) / a->steps;
fail:
    return status;
}

static enum status run_step(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct arguments a;
    struct bench b = { 0 };
    double *seconds = NULL, cpu_seconds = 0;
    json_t *report = NULL;
    TRY(parse(argc, argv, &a));
    seconds = calloc(a.steps, sizeof *seconds);
    if (!seconds)
        FAIL(STATUS_NOMEM, "out of memory");
    TRY(open_bench(&b, &a));
    TRY(time_steps(&b, &a, seconds, &cpu_seconds));
    double memory = peak_memory_mb();
    qsort(seconds, a.steps, sizeof *seconds, ascending);
    double median = seconds[a.steps / 2];
    log_info(
        "%s, width %d, %d images of %d pixels, %s, %s, %d threads: %.1f images/s; a step takes %.1f ms (%.1f to %.1f), "
        "%.1f ms of processor time; %.0f MB at most",
        a.arch, a.width, a.batch, a.size, b.device->ops->name, precision_name(a.precision), a.threads, a.batch / median,
        1e3 * median, 1e3 * seconds[0], 1e3 * seconds[a.steps - 1], 1e3 * cpu_seconds, memory);
    report = json_pack("{s:s,s:s,s:i,s:i,s:i,s:s,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:b}", "arch", a.arch, "device",
                       a.device, "width", a.width, "size", a.size, "batch", a.batch, "precision",
                       precision_name(a.precision), "threads", a.threads, "steps", a.steps, "img_s", a.batch / median,
                       "ms", 1e3 * median, "least_ms", 1e3 * seconds[0], "most_ms", 1e3 * seconds[a.steps - 1],
                       "processor_ms", 1e3 * cpu_seconds, "memory_mb", memory, "graph", net_uses_graphs(b.net));
    if (a.trace)
        TRY(add_trace(&b, &a, report));
    TRY(bench_write_json(json_incref(report), a.json));
fail:
    json_decref(report);
    close_bench(&b);
    free(seconds);
    return status;
}

/* ---- csc-bench layers ---- */

/* Times the three directions of a convolution, `runs` times after one run for warm-up. */
static enum status time_conv(struct device *device, const struct conv_shape *shape, int runs)
{
    enum status status = STATUS_OK;
    struct conv *conv = NULL;
    struct arena arena = { 0 };
    void *image = NULL, *code = NULL, *scratch = NULL;
    float *weights = NULL, *gradient = NULL;
    const struct epilogue plain = { .alpha = 1 };
    TRY(device->ops->conv_create(device, shape, device->precision, CONV_FORWARD | CONV_ADJOINT | CONV_GRADIENT, &conv));
    for (int pass = 0; pass < 2; pass++) {
        device->ops->conv_assign_memory(conv, &arena);
        image = arena_take(&arena, conv_in_count(shape) * sizeof(float));
        code = arena_take(&arena, conv_out_count(shape) * sizeof(float));
        weights = arena_take(&arena, conv_weight_count(shape) * sizeof(float));
        gradient = arena_take(&arena, conv_weight_count(shape) * sizeof(float));
        scratch = arena_take(&arena, conv->scratch);
        if (pass == 0)
            TRY(device->ops->arena_allocate(device, &arena));
    }
    for (int i = 0; i <= runs; i++) {
        const struct gradient_term term = { image, code, 1, NULL };
        if (i == 1)
            trace_start(device);
        TRY(device->ops->conv_load(conv, weights, scratch));
        TRY(device->ops->conv_forward(conv, image, code, &plain, scratch));
        TRY(device->ops->conv_adjoint(conv, code, image, &plain, scratch));
        TRY(device->ops->conv_gradient(conv, &term, 1, gradient, scratch));
    }
    trace_stop(device);
fail:
    if (conv)
        device->ops->conv_destroy(conv);
    device->ops->arena_finish(device, &arena);
    return status;
}

static bool is_repeated(const struct model *m, int node)
{
    for (int i = 0; i < node; i++)
        if ((m->nodes[i].kind == NODE_CONV || m->nodes[i].kind == NODE_CSC) &&
            !memcmp(&m->nodes[i].conv, &m->nodes[node].conv, sizeof m->nodes[i].conv))
            return true;
    return false;
}

static enum status time_layers(struct device *device, const struct model *m, const struct arguments *a, json_t *list)
{
    enum status status = STATUS_OK;
    struct trace_peaks peaks;
    TRY(trace_measure_peaks(device, &peaks));
    printf("peaks: %.1f GFLOP/s, %.1f GB/s\n", 1e-9 * peaks.flops, 1e-9 * peaks.bytes);
    trace_print_head();
    for (int i = 0; i < m->nodes_count; i++) {
        struct conv_shape shape = m->nodes[i].conv;
        if ((m->nodes[i].kind != NODE_CONV && m->nodes[i].kind != NODE_CSC) || is_repeated(m, i))
            continue;
        shape.n = a->batch;
        TRY(time_conv(device, &shape, a->steps));
        int count;
        double total = 0;
        const struct trace_line *lines = trace_lines(&count);
        for (int l = 0; l < count; l++)
            total += lines[l].seconds;
        for (int l = 0; l < count; l++) {
            trace_print(&lines[l], a->steps, total, &peaks);
            json_array_append_new(list, trace_json(&lines[l], a->steps, total, &peaks));
        }
    }
fail:
    return status;
}

static enum status run_layers(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct arguments a;
    struct model_config config;
    struct device *device = NULL;
    struct model *model = NULL;
    json_t *list = json_array();
    TRY(parse(argc, argv, &a));
    TRY(parse_network(&a, &config));
    TRY(device_open(&device, a.device, a.precision, a.threads));
    TRY(model_create(&model, device, &config));
    TRY(time_layers(device, model, &a, list));
    TRY(bench_write_json(json_incref(list), a.json));
fail:
    json_decref(list);
    model_destroy(model);
    device_close(device);
    return status;
}

const struct bench_command bench_step = { "step", "[options]", "training steps of a network on random images",
                                          step_help, run_step };
const struct bench_command bench_layers = { "layers", "[options]", "a network's convolutions", layers_help,
                                            run_layers };
