/* test_net_lambda.c - lambda by image against nets of that lambda, and the gradient of the image and of lambda against
 * finite differences of the logits, on small random networks. usage: test-net-lambda BACKEND */
#include <string.h>

#include "base/philox.h"
#include "layers/backend/device.h"
#include "layers/net.h"
#include "tests/check.h"

enum { N = 3, SIDE = 9, CLASSES = 5, VALUES = SIDE * SIDE * 3 };
#define GAIN 300 /* of the objective: a network with random weights answers weakly */

static const float lambdas[N] = { 0.05f, 0.2f, 0.13f };

struct subject {
    struct model *model;
    struct net *net;
    float images[N * VALUES], dlogits[N * CLASSES];
    int32_t labels[N];
};

static void must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s (%s)\n", status_message(), status_origin());
    exit(1);
}

/* Running statistics that are not trivial, so that a wrong sign or order shows. */
static void set_running(struct model *m, struct philox *stream)
{
    for (int i = 0; i < model_running_tensors(m); i++) {
        char name[80];
        size_t offset;
        int channels;
        float values[512];
        model_running_tensor(m, i, name, &offset, &channels);
        for (int c = 0; c < channels; c++)
            values[c] = (float)(i % 2 ? 0.5 + philox_uniform(stream) : 0.2 * philox_normal(stream));
        m->device->ops->copy_in(m->device, m->running + offset, values, channels * sizeof *values);
    }
}

static void init(struct subject *s, struct device *device, const struct model_config *config, enum net_use use)
{
    struct philox stream;
    philox_init(&stream, 5, 0, 1);
    must(model_create(&s->model, device, config));
    must(model_allocate(s->model));
    must(model_init(s->model, 3));
    set_running(s->model, &stream);
    model_normalize(s->model);
    must(model_converge_step_sizes(s->model));
    must(net_create(&s->net, s->model, N, use));
    must(net_allocate(s->net));
    for (int i = 0; i < N * VALUES; i++)
        s->images[i] = (float)philox_normal(&stream);
    for (int i = 0; i < N * CLASSES; i++)
        s->dlogits[i] = (float)(GAIN * philox_normal(&stream));
    for (int i = 0; i < N; i++)
        s->labels[i] = i;
}

static void finish(struct subject *s)
{
    net_destroy(s->net);
    model_destroy(s->model);
}

/* sum dlogits . logits of each image */
static void objective(struct subject *s, const float *images, double value[N])
{
    float losses[N], logits[N * CLASSES];
    must(net_upload(s->net, images, s->labels, N));
    must(net_infer(s->net, NULL));
    must(net_losses(s->net, 0, losses, logits));
    for (int i = 0; i < N; i++) {
        value[i] = 0;
        for (int k = 0; k < CLASSES; k++)
            value[i] += (double)s->dlogits[i * CLASSES + k] * logits[i * CLASSES + k];
    }
}

static void set_all(struct subject *s, const float *lambda)
{
    for (int i = 0; i < s->model->csc_count; i++)
        must(net_set_lambda(s->net, i, lambda));
}

/* A batch with three lambdas gives what three batches with one each give, and NULL takes it back. */
static void check_lambda(const char *name, struct subject *s)
{
    double mixed[N], single[N], before[N], after[N];
    set_all(s, NULL);
    objective(s, s->images, before);
    set_all(s, lambdas);
    objective(s, s->images, mixed);
    for (int i = 0; i < N; i++) {
        float same[N] = { lambdas[i], lambdas[i], lambdas[i] };
        set_all(s, same);
        objective(s, s->images, single);
        CHECK(fabs(mixed[i] - single[i]) <= 2e-4 * (1 + fabs(single[i])),
              "%s: image %d: %.7g, with its lambda alone %.7g", name, i, mixed[i], single[i]);
        CHECK(fabs(single[i] - before[i]) > 1e-2, "%s: image %d: lambda changes nothing", name, i);
    }
    set_all(s, NULL);
    objective(s, s->images, after);
    CHECK(memcmp(before, after, sizeof before) == 0, "%s: lambda was not taken back", name);
}

/* Along random directions the objective's central difference is the gradient's product with it. Codes that cross a
 * threshold on the way spoil single directions, so the median of several counts. */
static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_image_gradient(const char *name, struct subject *s, const float *lambda)
{
    enum { TRIES = 9 };
    static float gradient[N * VALUES], moved[N * VALUES];
    double base[N], up[N], down[N], errors[TRIES * N];
    const double h = 1e-3;
    set_all(s, lambda);
    objective(s, s->images, base);
    must(net_backward_input(s->net, s->dlogits, gradient, NULL));
    for (int t = 0; t < TRIES; t++) {
        struct philox stream;
        float direction[N * VALUES];
        double slope[N] = { 0 };
        philox_init(&stream, 7, 1, (uint64_t)t);
        for (int i = 0; i < N * VALUES; i++) {
            direction[i] = (float)(philox_normal(&stream) + 3 * gradient[i]);
            slope[i / VALUES] += (double)direction[i] * gradient[i];
        }
        for (int sign = -1; sign <= 1; sign += 2) {
            for (int i = 0; i < N * VALUES; i++)
                moved[i] = (float)(s->images[i] + sign * h * direction[i]);
            objective(s, moved, sign < 0 ? down : up);
        }
        for (int i = 0; i < N; i++)
            errors[t * N + i] = fabs((up[i] - down[i]) / (2 * h) - slope[i]) / (fabs(slope[i]) + 1e-9);
    }
    qsort(errors, TRIES * N, sizeof *errors, by_size);
    CHECK(errors[TRIES * N / 2] < 0.02, "%s: image gradient: median relative error %.3g", name, errors[TRIES * N / 2]);
}

static void check_lambda_gradient(const char *name, struct subject *s)
{
    static float gradient[N * VALUES];
    double base[N], up[N], down[N], dlambda[N];
    const float h = 5e-4f;
    set_all(s, lambdas);
    objective(s, s->images, base);
    must(net_backward_input(s->net, s->dlogits, gradient, dlambda));
    for (int sign = -1; sign <= 1; sign += 2) {
        float moved[N];
        for (int i = 0; i < N; i++)
            moved[i] = lambdas[i] + (float)sign * h;
        set_all(s, moved);
        objective(s, s->images, sign < 0 ? down : up);
    }
    for (int i = 0; i < N; i++) {
        double want = (up[i] - down[i]) / (2 * h);
        CHECK(fabs(dlambda[i] - want) < 0.06 * fabs(want) + 0.1, "%s: image %d: d/dlambda %.6g, by difference %.6g",
              name, i, dlambda[i], want);
    }
}

int main(int count, char **arguments)
{
    struct device *device;
    const char *backend = count > 1 ? arguments[1] : "ref";
    static char *one[] = { "layer2.0.conv1" };
    struct csc_config csc = { .steps = 2, .lambda = 0.1f, .nonnegative = true }, long_csc = csc, elastic = csc;
    long_csc.steps = 4;
    long_csc.nonnegative = false;
    elastic.mu = 0.3f;
    const struct {
        const char *name;
        struct model_config config;
    } cases[] = {
        { "resnet18", { .depth = 18, .csc = csc } },
        { "sdnet18", { .depth = 18, .sparse_stem = true, .csc = csc } },
        { "sdnet18-all", { .depth = 18, .sparse_stem = true, .all = true, .csc = csc } },
        { "sdnet18, 4 steps, two-sided", { .depth = 18, .sparse_stem = true, .csc = long_csc } },
        { "sdnet18, elastic", { .depth = 18, .sparse_stem = true, .csc = elastic } },
        { "a middle layer", { .depth = 18, .layers = one, .layers_count = 1, .csc = csc } },
    };
    must(device_open(&device, backend, PRECISION_FP32, 1));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct subject s;
        struct model_config config = cases[i].config;
        config.shortcut = true;
        config.width = 4;
        config.classes = CLASSES;
        config.image_size = SIDE;
        init(&s, device, &config, NET_INPUT_GRADIENT);
        check_image_gradient(cases[i].name, &s, NULL);
        if (s.model->csc_count > 0) {
            check_lambda(cases[i].name, &s);
            check_image_gradient(cases[i].name, &s, lambdas);
            check_lambda_gradient(cases[i].name, &s);
        }
        finish(&s);
        if (config.sparse_stem) { /* and where only inference is planned */
            init(&s, device, &config, NET_INFERENCE);
            check_lambda(cases[i].name, &s);
            finish(&s);
        }
    }
    device_close(device);
    return check_done("net-input");
}
