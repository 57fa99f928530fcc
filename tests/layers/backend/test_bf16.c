/* test_bf16.c - whole networks with bf16 activations beside the same ones in fp32: the first step's loss and
 * gradient agree up to rounding, the loss on the same images falls alike, and steps repeat to the bit.
 * An -all net of few images is chaotic, since a code on its threshold changes much. It gets more images and a wider
 * margin.
 * The CPU's backend is opened without asking for bf16 instructions, so that this runs on any machine.
 *   test-bf16 ref|cpu */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "layers/backend/cpu/cpu.h"
#include "layers/backend/device.h"
#include "layers/net.h"
#include "tests/check.h"

enum { MAX_IMAGES = 24, MAX_SIZE = 16, STEPS = 12, CLASSES = 3 };

struct data {
    float images[MAX_IMAGES * MAX_SIZE * MAX_SIZE * 3];
    int32_t labels[MAX_IMAGES];
    int count; /* images in use; they have the size that the network expects */
};

struct run {
    struct device *device;
    struct model *model;
    struct net *net;
    struct arena arena;
    float *reduce_buffer, *velocity; /* device */
    size_t head, count;
    double losses[STEPS];
    float *gradient;   /* host, of the first step */
    double lambda_max; /* of the last CSC-layer, at the first step */
};

static void must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s (%s)\n", status_message(), status_origin());
    exit(1);
}

static struct device *open_device(const char *kind, enum precision precision)
{
    struct device *device;
    const struct kernels *sets[CPU_KERNEL_SETS];
    cpu_kernel_sets(sets);
    if (strcmp(kind, "cpu") == 0)
        must(cpu_open_with(&device, precision, 2, sets[0]));
    else
        must(device_open(&device, kind, precision, 1));
    return device;
}

static void assign_memory(struct run *r)
{
    r->reduce_buffer = arena_take(&r->arena, r->count * sizeof(float));
    r->velocity = arena_take(&r->arena, r->model->count * sizeof(float));
}

static void open_run(struct run *r, const char *kind, enum precision precision, const struct model_config *config,
                     int images)
{
    *r = (struct run){ .device = open_device(kind, precision) };
    must(model_create(&r->model, r->device, config));
    must(model_allocate(r->model));
    must(net_create(&r->net, r->model, images, NET_TRAINING));
    must(net_allocate(r->net));
    r->head = net_reduce_layout(r->model).gradients;
    r->count = net_reduce_layout(r->model).count;
    assign_memory(r);
    must(r->device->ops->arena_allocate(r->device, &r->arena));
    assign_memory(r);
    must(model_init(r->model, 5));
    must(model_converge_step_sizes(r->model));
    r->gradient = malloc(r->model->count * sizeof *r->gradient);
}

static void close_run(struct run *r)
{
    r->device->ops->arena_finish(r->device, &r->arena);
    net_destroy(r->net);
    model_destroy(r->model);
    device_close(r->device);
    free(r->gradient);
}

static void train(struct run *r, const struct data *data)
{
    const struct backend *ops = r->device->ops;
    for (int step = 0; step < STEPS; step++) {
        const struct sgd sgd = { .lr = 0.02f, .momentum = 0.9f, .scale = 1, .first = step == 0 };
        const struct sgd_row all = { .length = (int)r->model->count, .decays = true };
        must(model_advance_step_sizes(r->model, 2));
        if (step == 0 && r->model->csc_count > 0)
            r->lambda_max = r->model->power[r->model->csc_count - 1]->lambda_max;
        ops->zero(r->device, r->reduce_buffer, r->count * sizeof(float));
        must(net_upload(r->net, data->images, data->labels, data->count));
        must(net_forward(r->net, r->reduce_buffer));
        must(net_backward(r->net, 0, r->reduce_buffer));
        r->losses[step] = net_loss(r->net);
        if (step == 0)
            ops->copy_out(r->device, r->gradient, r->reduce_buffer + r->head, r->model->count * sizeof(float));
        ops->sgd(r->device, &sgd, r->model->weights, r->reduce_buffer + r->head, r->velocity, &all, 1);
        model_normalize(r->model);
    }
}

static double cosine(const float *a, const float *b, size_t count)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < count; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void check_network(const char *kind, const char *name, const struct model_config *config,
                          const struct data *data, double min_cosine)
{
    struct run exact, rounded, again;
    open_run(&exact, kind, PRECISION_FP32, config, data->count);
    open_run(&rounded, kind, PRECISION_BF16, config, data->count);
    open_run(&again, kind, PRECISION_BF16, config, data->count);
    train(&exact, data);
    train(&rounded, data);
    train(&again, data);
    double alike = cosine(exact.gradient, rounded.gradient, exact.model->count);
    printf("%s %s: loss %.4f to %.4f, in bf16 %.4f to %.4f; cosine of the gradients %.4f; %zu and %zu bytes; "
           "lambda_max %.6g, %.6g\n",
           kind, name, exact.losses[0], exact.losses[STEPS - 1], rounded.losses[0], rounded.losses[STEPS - 1], alike,
           net_bytes(exact.net), net_bytes(rounded.net), exact.lambda_max, rounded.lambda_max);
    CHECK(fabs(rounded.losses[0] - exact.losses[0]) < 0.1 * exact.losses[0], "%s: the first losses differ", name);
    CHECK(fabs(rounded.lambda_max - exact.lambda_max) <= 1e-3 * exact.lambda_max,
          "%s: lambda_max is %.7g in bf16, %.7g in fp32", name, rounded.lambda_max, exact.lambda_max);
    CHECK(rounded.losses[0] != exact.losses[0], "%s: nothing was rounded", name);
    CHECK(alike > min_cosine, "%s: the gradients are not alike: cosine %g", name, alike);
    CHECK(rounded.losses[STEPS - 1] < 0.5 * rounded.losses[0], "%s: the loss does not fall", name);
    CHECK(memcmp(rounded.losses, again.losses, sizeof again.losses) == 0 &&
              memcmp(rounded.gradient, again.gradient, again.model->count * sizeof(float)) == 0,
          "%s: a repetition gives other bits", name);
    close_run(&exact);
    close_run(&rounded);
    close_run(&again);
}

int main(int count, char **arguments)
{
    static struct data data;
    struct philox random;
    if (count != 2) {
        fprintf(stderr, "usage: test-bf16 ref|cpu\n");
        return 2;
    }
    philox_init(&random, 3, PHILOX_DOMAIN_INIT, 77);
    for (size_t i = 0; i < sizeof data.images / sizeof *data.images; i++)
        data.images[i] = (float)philox_normal(&random);
    for (int i = 0; i < MAX_IMAGES; i++)
        data.labels[i] = i % CLASSES;
    struct model_config config = { .depth = 18,
                                   .shortcut = true,
                                   .width = 8,
                                   .classes = CLASSES,
                                   .image_size = 8,
                                   .csc = { .steps = 2, .lambda = 0.1f, .nonnegative = true },
                                   .seed = 1 };
    data.count = 6;
    check_network(arguments[1], "resnet18", &config, &data, 0.8);
    config.sparse_stem = true;
    check_network(arguments[1], "sdnet18", &config, &data, 0.8);
    if (strcmp(arguments[1], "cpu") == 0) { /* too large for the reference */
        data.count = MAX_IMAGES;
        config.width = 16;
        config.image_size = MAX_SIZE;
        config.all = true;
        check_network(arguments[1], "sdnet18-all", &config, &data, 0.5);
        config.imagenet_stem = true;
        config.csc.backward = CSC_ONE_STEP;
        check_network(arguments[1], "sdnet18-all, ImageNet's stem, one-step", &config, &data,
                      0.1); /* unrelated gradients have 0.01 */
    }
    return check_done("bf16");
}
