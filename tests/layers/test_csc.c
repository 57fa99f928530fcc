/* test_csc.c - the mathematics of the CSC-layer: A and A^T are adjoint; codes and gradients of every mode agree
 * with a double-precision layer and its central differences, away from the kink of the shrinkage; runs repeat to
 * the bit; lambda_max agrees with dense eigenvalues, and does not depend on parallel streams; the duality gap
 * bounds what is left to the optimum. */
#include <inttypes.h>

#include "base/philox.h"
#include "layers/backend/device.h"
#include "tests/gpu_emulation/emulated.h"
#include "tests/layers/backend/rig.h"
#include "tests/layers/backend/truth.h"

static uint64_t seed = 1;
static uint64_t stream; /* of the next draw */

/* Values exact in float, so that both sides start alike. */
static void fill(double *to, size_t count)
{
    struct philox random;
    philox_init(&random, seed, 0x7e570002u, stream++);
    for (size_t i = 0; i < count; i++)
        to[i] = (float)philox_normal(&random);
}

static void fill_atoms(double *w, const struct conv_shape *s)
{
    size_t length = conv_weight_count(s) / s->d;
    fill(w, conv_weight_count(s));
    for (int d = 0; d < s->d; d++) {
        double norm = 0;
        for (size_t i = 0; i < length; i++)
            norm += w[d * length + i] * w[d * length + i];
        for (size_t i = 0; i < length; i++)
            w[d * length + i] = (float)(w[d * length + i] / sqrt(norm));
    }
}

static int between(int low, int high)
{
    struct philox random;
    philox_init(&random, seed, 0x7e570003u, stream++);
    return low + (int)philox_below(&random, (uint32_t)(high - low + 1));
}

static float *floats(const double *from, size_t count)
{
    float *to = malloc(count * sizeof *to);
    for (size_t i = 0; i < count; i++)
        to[i] = (float)from[i];
    return to;
}

static double inner(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* ---- <A z, x> = <z, A^T x> ---- */

static void check_adjoint(struct device *device)
{
    for (int round = 0; round < 60; round++) {
        struct conv_shape s = {
            .n = between(1, 2), .c = between(1, 20), .d = between(1, 20), .k = between(1, 5), .stride = between(1, 3)
        };
        s.pad = between(0, s.k - 1);
        s.h = between(s.k, 11);
        s.w = between(s.k, 11);
        struct csc_config config = { .steps = 1, .nonnegative = true };
        struct epilogue plain = { .alpha = 1 };
        struct rig r;
        rig_init(&r, device, &s, &config, true);
        double *x = malloc(r.images * sizeof *x), *z = malloc(r.codes * sizeof *z), *w = malloc(r.weights * sizeof *w);
        fill(x, r.images);
        fill(z, r.codes);
        fill_atoms(w, &s);
        float *fx = floats(x, r.images), *fz = floats(z, r.codes), *fw = floats(w, r.weights);
        rig_in(&r, r.x, fx, r.images);
        rig_in(&r, r.z, fz, r.codes);
        rig_in(&r, r.w, fw, r.weights);
        rig_must(csc_load(r.csc, r.w, r.scratch));
        rig_must(device->ops->conv_forward(r.csc->conv, r.x, r.dz, &plain, r.scratch));
        rig_must(device->ops->conv_adjoint(r.csc->conv, r.z, r.dx, &plain, r.scratch));
        float *code = rig_out(&r, r.dz, r.codes), *image = rig_out(&r, r.dx, r.images);
        double left = inner(image, fx, r.images), right = inner(fz, code, r.codes);
        double size = sqrt(inner(image, image, r.images) * inner(fx, fx, r.images));
        CHECK(fabs(left - right) <= 1e-6 * size + 1e-30,
              "%s %dx%dx%dx%d k %d d %d stride %d pad %d: <Az,x> %.9g, <z,A'x> %.9g", device->ops->name, s.n, s.h, s.w,
              s.c, s.k, s.d, s.stride, s.pad, left, right);
        rig_spoil(&r);
        rig_finish(&r);
        void *all[] = { x, z, w, fx, fz, fw, code, image };
        for (int i = 0; i < 8; i++)
            free(all[i]);
    }
}

/* ---- forward and gradients ---- */

struct gradient_case {
    const char *name;
    struct conv_shape shape;
    struct csc_config config;
    double tolerance;
};

#define SHAPE                  \
    {                          \
        2, 7, 6, 3, 5, 3, 1, 1 \
    }
static const struct gradient_case gradient_cases[] = {
    { "1 step", SHAPE, { 1, 0.3f, 0, true, CSC_UNROLLED }, 5e-6 },
    { "2 steps", SHAPE, { 2, 0.3f, 0, true, CSC_UNROLLED }, 5e-6 },
    { "3 steps", SHAPE, { 3, 0.3f, 0, true, CSC_UNROLLED }, 5e-6 },
    { "5 steps", SHAPE, { 5, 0.3f, 0, true, CSC_UNROLLED }, 5e-6 },
    { "1 step, mu, two-sided", SHAPE, { 1, 0.3f, 0.7f, false, CSC_UNROLLED }, 5e-6 },
    { "2 steps, mu", SHAPE, { 2, 0.3f, 0.7f, true, CSC_UNROLLED }, 5e-6 },
    { "2 steps, two-sided", SHAPE, { 2, 0.3f, 0, false, CSC_UNROLLED }, 5e-6 },
    { "5 steps, mu, two-sided", SHAPE, { 5, 0.3f, 0.7f, false, CSC_UNROLLED }, 5e-6 },
    { "2 steps, lambda 0", SHAPE, { 2, 0, 0, false, CSC_UNROLLED }, 5e-6 },
    { "2 steps, stride 2, odd", { 2, 7, 5, 3, 4, 3, 2, 1 }, { 2, 0.2f, 0, true, CSC_UNROLLED }, 5e-6 },
    { "4 steps, stride 2, even kernel", { 1, 7, 8, 2, 4, 2, 2, 0 }, { 4, 0.2f, 0.1f, true, CSC_UNROLLED }, 5e-6 },
    { "2 steps, pointwise, stride 2", { 2, 7, 6, 5, 4, 1, 2, 0 }, { 2, 0.1f, 0, true, CSC_UNROLLED }, 5e-6 },
    { "3 steps, 5 taps, stride 3", { 1, 10, 9, 2, 5, 5, 3, 2 }, { 3, 0.2f, 0, false, CSC_UNROLLED }, 5e-6 },
    { "one-step of 1", SHAPE, { 1, 0.3f, 0, true, CSC_ONE_STEP }, 5e-6 },
    { "one-step of 2", SHAPE, { 2, 0.3f, 0, true, CSC_ONE_STEP }, 5e-6 },
    { "one-step of 3", SHAPE, { 3, 0.3f, 0.2f, true, CSC_ONE_STEP }, 5e-6 },
    { "one-step of 6, two-sided, stride 2", { 2, 7, 5, 3, 4, 3, 2, 1 }, { 6, 0.3f, 0.2f, false, CSC_ONE_STEP }, 5e-6 },
    { "implicit, mu", { 1, 5, 5, 2, 3, 3, 1, 1 }, { 250, 0.3f, 0.5f, true, CSC_IMPLICIT }, 5e-5 },
    { "implicit, mu, two-sided, stride 2", { 1, 6, 5, 2, 3, 3, 2, 1 }, { 250, 0.2f, 0.5f, false, CSC_IMPLICIT }, 5e-5 },
    { "implicit, injective", { 1, 6, 7, 6, 3, 1, 1, 0 }, { 400, 0.1f, 0, true, CSC_IMPLICIT }, 1e-3 },
};

struct problem {
    struct truth truth;
    size_t images, codes, weights;
    double *x, *w, *dz, *z, *y, *dx, *dw;
    float *fx, *fw, *fdz;
};

/* How far from its threshold a draw must keep every value, so that rounding or a difference cannot cross it. */
#define KINK 2e-5

/* Draws until no value lies nearer to its threshold than `margin`; then the gradients, by differences. */
static void problem_init(struct problem *p, const struct gradient_case *c, double margin, bool differences)
{
    *p = (struct problem){ .truth = { .shape = c->shape, .config = c->config },
                           .images = conv_in_count(&c->shape),
                           .codes = conv_out_count(&c->shape),
                           .weights = conv_weight_count(&c->shape) };
    double **all[] = { &p->x, &p->dx, &p->w, &p->dw, &p->dz, &p->z, &p->y };
    for (int i = 0; i < 7; i++)
        *all[i] = malloc((i < 2 ? p->images : i < 4 ? p->weights : p->codes) * sizeof(double));
    struct conv_shape one = c->shape;
    one.n = 1;
    p->truth.last_y = p->y;
    int tries = 0;
    do {
        fill(p->x, p->images);
        fill_atoms(p->w, &c->shape);
        p->truth.eta = (float)(0.9 / truth_lambda_max(&one, p->w));
        truth_forward(&p->truth, p->x, p->w, p->z);
    } while (p->truth.margin < margin && ++tries < 300);
    CHECK(p->truth.margin >= margin, "%s: no draw away from the kink", c->name);
    fill(p->dz, p->codes);
    p->fx = floats(p->x, p->images);
    p->fw = floats(p->w, p->weights);
    p->fdz = floats(p->dz, p->codes);
    if (!differences)
        return;
    double *y = NULL;
    if (c->config.backward == CSC_ONE_STEP && c->config.steps > 1) {
        y = malloc(p->codes * sizeof *y);
        memcpy(y, p->y, p->codes * sizeof *y);
        p->truth.frozen = y;
    }
    truth_gradient(&p->truth, p->x, p->images, p->x, p->w, p->dz, p->dx);
    truth_gradient(&p->truth, p->w, p->weights, p->x, p->w, p->dz, p->dw);
    p->truth.frozen = NULL;
    free(y);
}

static void problem_finish(struct problem *p)
{
    void *all[] = { p->x, p->w, p->dz, p->z, p->y, p->dx, p->dw, p->fx, p->fw, p->fdz };
    for (int i = 0; i < 10; i++)
        free(all[i]);
}

static double compare(struct rig *r, const char *name, const char *part, const float *found, const double *truth,
                      size_t count, double tolerance)
{
    float *host = rig_out(r, found, count);
    double error = relative_error(host, truth, count);
    CHECK(error <= tolerance, "%s %s: %s is off by %.2g of its norm", r->device->ops->name, name, part, error);
    free(host);
    return error;
}

static void check_gradients(struct device *device)
{
    for (size_t i = 0; i < sizeof gradient_cases / sizeof *gradient_cases; i++) {
        const struct gradient_case *c = &gradient_cases[i];
        struct problem p;
        struct rig r;
        problem_init(&p, c, KINK, true);
        rig_init(&r, device, &c->shape, &c->config, true);
        rig_forward(&r, p.fx, p.fw, (float)p.truth.eta);
        rig_backward(&r, p.fdz, (float)p.truth.eta);
        double z = compare(&r, c->name, "z", r.z, p.z, p.codes, 2e-6);
        double dx = compare(&r, c->name, "dx", r.dx, p.dx, p.images, c->tolerance);
        double dw = compare(&r, c->name, "dw", r.dw, p.dw, p.weights, c->tolerance);
        printf("%-4s %-36s z %.1e  dx %.1e  dw %.1e\n", device->ops->name, c->name, z, dx, dw);
        rig_finish(&r);
        problem_finish(&p);
    }
}

/* ---- accumulation, missing dx, evaluation, repetition ---- */

static void same(const char *name, const char *what, const float *a, const float *b, size_t count)
{
    CHECK(!memcmp(a, b, count * sizeof *a), "%s: %s differs", name, what);
}

/* After a forward, backward with dx accumulated and dw on top of what is there. */
static void check_accumulation(struct rig *r, const struct gradient_case *c, const struct problem *p, const float *dx,
                               const float *dw)
{
    float *base = malloc((r->images + r->weights) * sizeof *base);
    double *sum = malloc((r->images + r->weights) * sizeof *sum), eta = p->truth.eta;
    for (size_t i = 0; i < r->images + r->weights; i++) {
        base[i] = (float)(int)(i % 7) - 3;
        sum[i] = (double)base[i] + (i < r->images ? dx[i] : dw[i - r->images]);
    }
    rig_in(r, r->dz, p->fdz, r->codes);
    rig_in(r, r->dx, base, r->images);
    rig_in(r, r->dw, base + r->images, r->weights);
    rig_must(csc_backward(r->csc, r->x, (float)eta, r->z, r->dz, false, r->dx, true, r->dw, r->scratch));
    rig_check_guard(r);
    rig_spoil(r);
    compare(r, c->name, "accumulated dx", r->dx, sum, r->images, 1e-6);
    compare(r, c->name, "accumulated dw", r->dw, sum + r->images, r->weights, 1e-6);
    free(base);
    free(sum);
}

static void check_variants(struct device *device)
{
    for (size_t i = 0; i < sizeof gradient_cases / sizeof *gradient_cases; i++) {
        const struct gradient_case *c = &gradient_cases[i];
        struct problem p;
        struct rig r, again, quiet;
        problem_init(&p, c, 0, false);
        float eta = (float)p.truth.eta;
        rig_init(&r, device, &c->shape, &c->config, true);
        rig_init(&again, device, &c->shape, &c->config, true);
        rig_init(&quiet, device, &c->shape, &c->config, false);
        rig_forward(&r, p.fx, p.fw, eta);
        float there = rig_use_device_scalars(&again, eta);
        rig_forward(&again, p.fx, p.fw, there);
        rig_forward(&quiet, p.fx, p.fw, rig_use_device_scalars(&quiet, eta));
        float *z = rig_out(&r, r.z, r.codes), *z2 = rig_out(&again, again.z, r.codes),
              *z3 = rig_out(&quiet, quiet.z, r.codes);
        same(c->name, "code of a second run", z, z2, r.codes);
        same(c->name, "code of evaluation", z, z3, r.codes);
        rig_backward(&r, p.fdz, eta);
        rig_backward(&again, p.fdz, there);
        float *dx = rig_out(&r, r.dx, r.images), *dx2 = rig_out(&again, again.dx, r.images);
        float *dw = rig_out(&r, r.dw, r.weights), *dw2 = rig_out(&again, again.dw, r.weights);
        same(c->name, "dx of a second run", dx, dx2, r.images);
        same(c->name, "dw of a second run", dw, dw2, r.weights);
        check_accumulation(&r, c, &p, dx, dw);
        rig_in(&again, again.dz, p.fdz, r.codes);
        device->ops->zero(device, again.dw, r.weights * sizeof(float));
        rig_must(
            csc_backward(again.csc, again.x, there, again.z, again.dz, false, NULL, false, again.dw, again.scratch));
        float *dw3 = rig_out(&again, again.dw, r.weights);
        same(c->name, "dw without dx", dw, dw3, r.weights);
        rig_finish(&r);
        rig_spoil(&again);
        rig_finish(&again);
        rig_finish(&quiet);
        problem_finish(&p);
        void *all[] = { z, z2, z3, dx, dx2, dw, dw2, dw3 };
        for (int j = 0; j < 8; j++)
            free(all[j]);
    }
}

/* ---- lambda_max ---- */

static void check_power(struct device *device)
{
    for (int round = 0; round < 24; round++) {
        struct conv_shape s = {
            .n = 3, .c = between(1, 3), .d = between(1, 6), .k = between(1, 4), .stride = between(1, 2)
        };
        struct csc_config config = { .steps = 1 };
        struct rig r, halves;
        s.pad = between(0, s.k - 1);
        s.h = between(s.k, 8);
        s.w = between(s.k, 6);
        struct conv_shape one = s;
        one.n = 1;
        rig_init(&r, device, &s, &config, false);
        rig_init(&halves, device, &s, &config, false);
        double *w = malloc(r.weights * sizeof *w);
        fill_atoms(w, &s);
        float *fw = floats(w, r.weights);
        double truth = truth_lambda_max(&one, w);
        size_t count = conv_in_count(&one);
        rig_in(&r, r.w, fw, r.weights);
        rig_in(&halves, halves.w, fw, r.weights);
        rig_must(csc_power_start(r.power, 5, (uint64_t)round));
        rig_must(csc_power_start(halves.power, 5, (uint64_t)round));
        rig_must(csc_power_advance(r.power, r.w, 6, r.scratch));
        csc_power_fetch(&r.power, 1);
        double early = r.power->lambda_max;
        rig_must(csc_power_advance(halves.power, halves.w, 2, r.scratch));
        rig_must(csc_power_advance(halves.power, halves.w, 4, r.scratch));
        csc_power_fetch(&halves.power, 1);
        float *v = rig_out(&r, r.power->vector, count), *v2 = rig_out(&halves, halves.power->vector, count);
        same("power iteration", "6 iterations and 2 + 4", v, v2, count);
        CHECK(r.power->eta == halves.power->eta, "eta differs");
        rig_must(csc_power_start(halves.power, 5, (uint64_t)round));
        for (int i = 0; i < 6; i++)
            rig_must(csc_power_advance(halves.power, halves.w, 1, halves.scratch));
        csc_power_fetch(&halves.power, 1);
        CHECK(fabs(halves.power->lambda_max / early - 1) < 1e-5, "six times one iteration: %.9g, six at once: %.9g",
              halves.power->lambda_max, early);
        CHECK(fabs(inner(v, v, count) - 1) < 1e-5, "the vector's norm is not 1");
        CHECK(early <= truth * (1 + 1e-6), "a quotient of %.9g above lambda_max %.9g", early, truth);
        rig_must(csc_power_converge(r.power, r.w, r.scratch));
        double found = r.power->lambda_max;
        CHECK(fabs(found / truth - 1) < 1e-5, "%s %dx%dx%d k %d d %d stride %d pad %d: lambda_max %.9g, should be %.9g",
              device->ops->name, s.h, s.w, s.c, s.k, s.d, s.stride, s.pad, found, truth);
        CHECK(fabs(r.power->eta * found / 0.9 - 1) < 1e-6, "eta is %.9g at %.9g", r.power->eta, found);
        rig_must(csc_power_advance(r.power, r.w, 2, r.scratch)); /* a training step from there stays */
        csc_power_fetch(&r.power, 1);
        CHECK(fabs(r.power->lambda_max / truth - 1) < 1e-5, "lambda_max left for %.9g", r.power->lambda_max);
        rig_must(csc_power_start(halves.power, 5, (uint64_t)round + 1));
        float *v3 = rig_out(&halves, halves.power->vector, count);
        CHECK(count == 1 || memcmp(v2, v3, count * sizeof *v3), "every layer starts alike");
        rig_spoil(&r);
        rig_spoil(&halves);
        rig_finish(&r);
        rig_finish(&halves);
        void *all[] = { w, fw, v, v2, v3 };
        for (int i = 0; i < 5; i++)
            free(all[i]);
    }
}

/* ---- layers on parallel streams ---- */

enum { STREAMED = DEVICE_STREAMS + 2 };

static void advance_on_streams(struct device *device, struct rig *rigs)
{
    device->ops->streams_begin(device);
    for (int i = 0; i < STREAMED; i++) {
        device->ops->stream_select(device, i % DEVICE_STREAMS);
        rig_must(csc_power_advance(rigs[i].power, rigs[i].w, 2, rigs[i].scratch));
    }
    device->ops->streams_end(device);
}

/* Power iterations on parallel streams, and captured there as a graph and launched, against one after another. Half the
 * layers have many atoms. */
static void check_streams(struct device *device)
{
    const struct backend *ops = device->ops;
    struct csc_config config = { .steps = 1 };
    struct device_graph *graph = NULL;
    struct rig alone[STREAMED], parallel[STREAMED];
    if (!ops->streams_begin)
        return;
    for (int i = 0; i < STREAMED; i++) {
        struct conv_shape s = { 1, 6 + i, 5, i % 3 ? 3 : 8, i % 2 ? 32 : 5, i == 2 ? 1 : 3, 1, i == 2 ? 0 : 1 };
        double *w = malloc(conv_weight_count(&s) * sizeof *w);
        fill_atoms(w, &s);
        float *fw = floats(w, conv_weight_count(&s));
        for (int j = 0; j < 2; j++) {
            struct rig *r = j ? &parallel[i] : &alone[i];
            rig_init(r, device, &s, &config, false);
            rig_in(r, r->w, fw, r->weights);
            rig_must(csc_power_start(r->power, 5, (uint64_t)i));
        }
        rig_must(csc_power_advance(alone[i].power, alone[i].w, 4, alone[i].scratch));
        free(w);
        free(fw);
    }
    advance_on_streams(device, parallel);
    if (ops->graph_capture_begin) {
        rig_must(ops->graph_capture_begin(device));
        advance_on_streams(device, parallel);
        rig_must(ops->graph_capture_end(device, &graph));
        rig_must(ops->graph_launch(device, graph));
        ops->graph_free(device, graph);
    } else
        advance_on_streams(device, parallel);
    for (int i = 0; i < STREAMED; i++) {
        struct rig *a = &alone[i], *b = &parallel[i];
        float *v = rig_out(a, a->power->vector, a->images), *v2 = rig_out(b, b->power->vector, a->images);
        csc_power_fetch(&a->power, 1);
        csc_power_fetch(&b->power, 1);
        same("power iteration", "alone and on parallel streams", v, v2, a->images);
        CHECK(a->power->lambda_max == b->power->lambda_max, "lambda_max depends on other layers");
        rig_spoil(a);
        rig_spoil(b);
        rig_finish(a);
        rig_finish(b);
        free(v);
        free(v2);
    }
}

/* ---- diagnostics ---- */

static void check_diagnostics(struct device *device, bool nonnegative, float mu)
{
    static const int steps[] = { 1, 4, 30, 1000 };
    struct gradient_case c = {
        "diagnostics", { 3, 6, 7, 2, 4, 3, 1, 1 }, { 1000, 0.3f, mu, nonnegative, CSC_UNROLLED }, 0
    };
    struct problem p;
    problem_init(&p, &c, 0, false); /* p.z: the optimum */
    double last = INFINITY;
    for (int i = 0; i < 4; i++) {
        struct rig r;
        c.config.steps = steps[i];
        rig_init(&r, device, &c.shape, &c.config, false);
        rig_forward(&r, p.fx, p.fw, (float)p.truth.eta);
        struct csc_diagnostics found;
        rig_must(csc_diagnose(r.csc, r.x, r.z, &found, r.scratch));
        float *z = rig_out(&r, r.z, r.codes);
        double *code = malloc(r.codes * sizeof *code), *image = malloc(r.images * sizeof *image);
        double nonzeros = 0, left = 0, size = 0, energy = 0;
        for (size_t j = 0; j < r.codes; j++) {
            code[j] = z[j];
            nonzeros += z[j] != 0;
        }
        truth_synthesis(&c.shape, code, p.w, image);
        for (size_t j = 0; j < r.images; j++) {
            left += (p.x[j] - image[j]) * (p.x[j] - image[j]);
            size += p.x[j] * p.x[j];
        }
        for (int n = 0; n < c.shape.n; n++) {
            double x2 = 0;
            for (size_t j = 0; j < r.images / c.shape.n; j++)
                x2 += pow(p.x[n * r.images / c.shape.n + j], 2);
            energy += (truth_energy(&p.truth, p.x, p.w, code, n) - truth_energy(&p.truth, p.x, p.w, p.z, n)) /
                      (0.5 * x2);
        }
        energy /= c.shape.n;
        const char *name = device->ops->name;
        CHECK(fabs(found.nonzeros - nonzeros / (double)r.codes) < 1e-12, "%s: fraction of non-zeros %g", name,
              found.nonzeros);
        CHECK(fabs(found.residual / (left / size) - 1) < 1e-5, "%s: residual %g, should be %g", name, found.residual,
              left / size);
        CHECK(found.gap >= -1e-6 && found.gap >= energy - 1e-6, "%s, %d steps: gap %g, but %g above the optimum", name,
              steps[i], found.gap, energy);
        CHECK(found.gap < last, "%s, %d steps: gap %g, was %g after fewer", name, steps[i], found.gap, last);
        printf("%-4s %4d steps, %s, mu %g: gap %.2e, above the optimum by %.2e\n", name, steps[i],
               nonnegative ? "nonnegative" : "two-sided", mu, found.gap, energy);
        last = found.gap;
        rig_spoil(&r);
        rig_finish(&r);
        free(z);
        free(code);
        free(image);
    }
    CHECK(last < 1e-5, "%s: a gap of %g is left at the optimum", device->ops->name, last);
    problem_finish(&p);
}

/* test-csc ref|cpu [SEED] */
int main(int count, char **arguments)
{
    struct device *device;
    if (count < 2 || count > 3) {
        fprintf(stderr, "test-csc ref|cpu [SEED]\n");
        return 2;
    }
    if (count == 3)
        seed = strtoull(arguments[2], NULL, 0);
    printf("seed %" PRIu64 "\n", seed);
    if (any_device_missing(arguments[1]))
        return check_skip(any_device_missing(arguments[1]));
    rig_must(any_device_open(&device, arguments[1], PRECISION_FP32, 2));
    check_adjoint(device);
    check_gradients(device);
    check_variants(device);
    check_power(device);
    check_streams(device);
    for (int mode = 0; mode < 4; mode++)
        check_diagnostics(device, mode & 1, mode & 2 ? 0.5f : 0);
    device_close(device);
    return check_done("csc");
}
