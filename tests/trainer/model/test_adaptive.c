/* test_adaptive.c - compares the residual behind lambda(x) with csc_diagnose's, and its gradient with finite
 * differences. */
#include <string.h>

#include "base/philox.h"
#include "layers/backend/device.h"
#include "tests/check.h"
#include "trainer/model/adaptive.h"

enum { N = 11 /* more than one part */, SIDE = 8, VALUES = SIDE * SIDE * 3, STEPS = 12 };

static void must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s (%s)\n", status_message(), status_origin());
    exit(1);
}

static struct model *make_model(struct device *device, bool sparse, int steps)
{
    struct model *m;
    struct model_config config = { .depth = 18,
                                   .sparse_stem = sparse,
                                   .shortcut = true,
                                   .width = 8,
                                   .classes = 4,
                                   .image_size = SIDE,
                                   .csc = { .steps = steps, .lambda = 0.1f, .nonnegative = true } };
    must(model_create(&m, device, &config));
    must(model_allocate(m));
    must(model_init(m, 2));
    model_normalize(m);
    must(model_converge_step_sizes(m));
    return m;
}

/* m: a network whose layers take as many steps as the rule's. csc_diagnose gives |r|^2 / |x|^2 of a batch; with a batch
 * of one image that is the square of R times d / |x|^2. */
static void check_residual(struct adaptive *a, struct model *m, const float *images)
{
    struct net *net;
    int32_t label = 0;
    double residuals[N];
    must(net_create(&net, m, 1, NET_INFERENCE));
    must(net_allocate(net));
    must(adaptive_residuals(a, images, N, residuals));
    for (int i = 0; i < N; i++) {
        struct csc_diagnostics d;
        double x2 = 0;
        for (int j = 0; j < VALUES; j++)
            x2 += (double)images[i * VALUES + j] * images[i * VALUES + j];
        must(net_upload(net, images + i * VALUES, &label, 1));
        must(net_infer(net, &d));
        double want = sqrt(d.residual * x2 / VALUES);
        CHECK(fabs(want - residuals[i]) < 1e-4 * want, "image %d: %.7g, the layer says %.7g", i, residuals[i], want);
    }
    net_destroy(net);
}

static void check_gradient(struct adaptive *a, struct net *net, const float *images, const struct adaptive_rule *rule)
{
    enum { TRIES = 5 };
    static float gradient[N * VALUES], moved[N * VALUES];
    const double h = 1e-3, ones[N] = { 1, 1, -2, 1, 0, 1, 1, 3, 1, 1, -1 };
    memset(gradient, 0, sizeof gradient);
    must(adaptive_apply(a, net, images, N));
    must(adaptive_backward(a, ones, N, gradient));
    for (int t = 0; t < TRIES; t++) {
        struct philox stream;
        float direction[N * VALUES];
        double slope[N] = { 0 }, up[N], down[N];
        philox_init(&stream, 8, 2, (uint64_t)t);
        for (int i = 0; i < N * VALUES; i++) {
            direction[i] = (float)philox_normal(&stream) + 0.5f * images[i];
            slope[i / VALUES] += (double)direction[i] * gradient[i];
        }
        for (int sign = -1; sign <= 1; sign += 2) {
            for (int i = 0; i < N * VALUES; i++)
                moved[i] = (float)(images[i] + sign * h * direction[i]);
            must(adaptive_residuals(a, moved, N, sign < 0 ? down : up));
        }
        for (int i = 0; i < N; i++) {
            double want = ones[i] * (adaptive_lambda(rule, up[i]) - adaptive_lambda(rule, down[i])) / (2 * h);
            CHECK(fabs(want - slope[i]) < 0.03 * fabs(want) + 0.003, "image %d: %.6g, by difference %.6g", i, slope[i],
                  want);
        }
    }
}

int main(void)
{
    struct device *device;
    struct adaptive *a;
    struct net *net;
    struct philox stream;
    float images[N * VALUES];
    const struct adaptive_rule rule = {
        .training_lambda = 0.1, .steps = STEPS, .intercept = 0.02, .slope = 0.7, .low = 0.01, .high = 10
    };
    const struct adaptive_rule capped = {
        .training_lambda = 0.1, .steps = 2, .intercept = 0.02, .slope = 0.7, .low = 0.01, .high = 0.02
    };
    must(device_open(&device, "cpu", PRECISION_FP32, 1));
    struct model *m = make_model(device, true, 2), *solver = make_model(device, true, STEPS),
                 *plain = make_model(device, false, 2);
    philox_init(&stream, 4, 1, 0);
    for (int i = 0; i < N * VALUES; i++)
        images[i] = (float)philox_normal(&stream) * (1 + i / VALUES % 3);
    must(net_create(&net, m, N, NET_INPUT_GRADIENT));
    must(net_allocate(net));
    must(adaptive_create(&a, m, N, &rule, NULL, true));
    check_residual(a, solver, images);
    check_gradient(a, net, images, &rule);
    must(adaptive_apply(a, net, images, 2));
    CHECK(adaptive_lambdas(a)[0] > rule.low && adaptive_lambdas(a)[0] < adaptive_lambdas(a)[1],
          "louder images, larger lambdas: %g %g", adaptive_lambdas(a)[0], adaptive_lambdas(a)[1]);
    adaptive_destroy(a);
    must(adaptive_create(&a, m, N, &capped, NULL, true));
    check_residual(a, m, images);
    check_gradient(a, net, images, &capped); /* 0 everywhere */
    CHECK(adaptive_lambdas(a)[2] == (float)capped.high, "clamped");
    adaptive_destroy(a);
    CHECK(adaptive_create(&a, plain, N, &rule, NULL, false) == STATUS_USAGE, "a network without a CSC stem");
    net_destroy(net);
    model_destroy(m);
    model_destroy(solver);
    model_destroy(plain);
    device_close(device);
    return check_done("adaptive");
}
