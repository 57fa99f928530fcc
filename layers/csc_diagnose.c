/* csc_diagnose.c - what is measured of a CSC-layer: its largest eigenvalue, and how well its codes are. */
#include <math.h>
#include <stdlib.h>

#include "base/philox.h"
#include "layers/csc.h"

#define SWEEP_START    16   /* plain iterations before the first sweep, and degree of its polynomial */
#define SWEEP_DEGREE   256  /* of the last sweeps; from one to the next it doubles */
#define SWEEP_MAX      40   /* until convergence is given up */
#define SWEEP_RISE     1e-6 /* relative rise of lambda_max over a sweep at which it has converged, */
#define SWEEP_PATIENCE 2    /* that many times in a row */
#define STEP_SAFETY    0.9  /* eta = 0.9 / lambda_max, as published */

/* What a training step multiplies in: a GPU's tensor cores take floats as tf32, unless the network is in fp32; a CPU's
 * bf16, but rounding and packing weights that are far more than pixels would outweigh that. */
static enum precision fast_precision(const struct csc_power *power)
{
    const struct conv_shape *s = &power->shape;
    if (power->device->ops->stream)
        return power->device->precision == PRECISION_FP32 ? PRECISION_FP32 : PRECISION_TF32;
    bool pays = conv_weight_count(s) < 32 * (conv_in_count(s) + conv_out_count(s));
    return pays ? power->device->precision : PRECISION_FP32;
}

enum status csc_power_create(struct csc_power **out, struct device *device, const struct conv_shape *shape)
{
    enum status status = STATUS_OK;
    struct csc_power *power = calloc(1, sizeof *power);
    if (!power)
        FAIL(STATUS_NOMEM, "out of memory for a power iteration");
    power->device = device;
    power->shape = *shape;
    power->shape.n = 1;
    TRY(device->ops->conv_create(device, &power->shape, PRECISION_FP32, CONV_FORWARD | CONV_ADJOINT, &power->conv));
    if (fast_precision(power) != PRECISION_FP32)
        TRY(device->ops->conv_create(device, &power->shape, fast_precision(power), CONV_FORWARD | CONV_ADJOINT,
                                     &power->fast_conv));
    *out = power;
    power = NULL;
fail:
    csc_power_destroy(power);
    return status;
}

void csc_power_destroy(struct csc_power *power)
{
    if (power && power->conv)
        power->device->ops->conv_destroy(power->conv);
    if (power && power->fast_conv)
        power->device->ops->conv_destroy(power->fast_conv);
    free(power);
}

size_t csc_power_scratch(const struct csc_power *power)
{
    size_t bytes = power->conv->scratch, fast = power->fast_conv ? power->fast_conv->scratch : 0;
    return bytes > fast ? bytes : fast;
}

void csc_power_assign_memory(struct csc_power *power, struct arena *arena, double *lambda_max_device)
{
    power->lambda_max_device = lambda_max_device;
    power->device->ops->conv_assign_memory(power->conv, arena);
    power->vector = arena_take(arena, conv_in_count(&power->shape) * sizeof(float));
    power->image = arena_take(arena, conv_in_count(&power->shape) * sizeof(float));
    power->code = arena_take(arena, conv_out_count(&power->shape) * sizeof(float));
    power->next = arena_take(arena, conv_in_count(&power->shape) * sizeof(float));
    if (power->fast_conv)
        power->device->ops->conv_assign_memory(power->fast_conv, arena);
    if (!power->fast_conv || power->fast_conv->precision == PRECISION_TF32)
        return;
    size_t bytes = precision_bytes(power->device->precision);
    power->bf16_image[0] = arena_take(arena, conv_in_count(&power->shape) * bytes);
    power->bf16_image[1] = arena_take(arena, conv_in_count(&power->shape) * bytes);
    power->bf16_code = arena_take(arena, conv_out_count(&power->shape) * bytes);
}

static void normalize(struct csc_power *power, const float *from)
{
    const struct backend *ops = power->device->ops;
    size_t count = conv_in_count(&power->shape);
    double norm = sqrt(ops->dot_f32(power->device, from, from, count));
    float scale = (float)(1 / fmax(norm, 1e-30));
    ops->axpby_f32(power->device, scale, from, 0, from, power->vector, count);
}

enum status csc_power_start(struct csc_power *power, uint64_t seed, uint64_t layer)
{
    enum status status = STATUS_OK;
    struct philox stream;
    size_t count = conv_in_count(&power->shape);
    float *host = malloc(count * sizeof *host);
    if (!host)
        FAIL(STATUS_NOMEM, "out of memory for a power iteration");
    philox_init(&stream, seed, PHILOX_DOMAIN_POWER, layer);
    for (size_t i = 0; i < count; i++)
        host[i] = (float)philox_normal(&stream);
    power->device->ops->copy_in(power->device, power->image, host, count * sizeof *host);
    normalize(power, power->image);
fail:
    free(host);
    return status;
}

/* Two iterations, or one, on a device that ends them itself: v = A A^T v, then the same with the quotient |A^T v|^2 /
 * |v|^2, and v normalised. */
static enum status iterate_on_device(struct csc_power *power, struct conv *conv, bool twice, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = power->device->ops;
    struct epilogue plain = { .alpha = 1 };
    const float *from = power->vector;
    if (twice) {
        TRY(ops->conv_forward(conv, power->vector, power->code, &plain, scratch));
        TRY(ops->conv_adjoint(conv, power->code, power->next, &plain, scratch));
        from = power->next;
    }
    TRY(ops->conv_forward(conv, from, power->code, &plain, scratch));
    TRY(ops->conv_adjoint(conv, power->code, power->image, &plain, scratch));
    ops->power_normalize(power->device, power->code, conv_out_count(&power->shape), from, power->image,
                         conv_in_count(&power->shape), power->vector, power->lambda_max_device);
fail:
    return status;
}

/* One iteration: the quotient |A^T v|^2 / |v|^2, then v = A A^T v, normalised. */
static enum status iterate(struct csc_power *power, struct conv *conv, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = power->device->ops;
    struct epilogue plain = { .alpha = 1 };
    size_t count = conv_in_count(&power->shape), codes = conv_out_count(&power->shape);
    if (ops->power_normalize)
        return iterate_on_device(power, conv, false, scratch);
    TRY(ops->conv_forward(conv, power->vector, power->code, &plain, scratch));
    power->lambda_max = ops->dot_f32(power->device, power->code, power->code, codes) /
                        ops->dot_f32(power->device, power->vector, power->vector, count);
    TRY(ops->conv_adjoint(conv, power->code, power->image, &plain, scratch));
    normalize(power, power->image);
fail:
    return status;
}

/* The same with rounded operands. Rounding a vector moves the quotient by its square only. */
static enum status iterate_rounded(struct csc_power *power, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = power->device->ops;
    struct epilogue plain = { .alpha = 1 };
    size_t count = conv_in_count(&power->shape), codes = conv_out_count(&power->shape);
    void *vector = power->bf16_image[0], *image = power->bf16_image[1], *code = power->bf16_code;
    ops->upload(power->device, vector, power->vector, count);
    TRY(ops->conv_forward(power->fast_conv, vector, code, &plain, scratch));
    power->lambda_max = ops->dot_act(power->device, code, code, codes) /
                        ops->dot_act(power->device, vector, vector, count);
    TRY(ops->conv_adjoint(power->fast_conv, code, image, &plain, scratch));
    ops->download(power->device, power->image, image, count);
    normalize(power, power->image);
fail:
    return status;
}

void csc_power_fetch(struct csc_power *const *powers, int count)
{
    enum { AT_ONCE = 64 };
    double values[AT_ONCE];
    for (int done = 0; done < count; done++) {
        struct csc_power *power = powers[done];
        const struct backend *ops = power->device->ops;
        int left = count - done;
        if (ops->power_normalize && done % AT_ONCE == 0)
            ops->copy_out(power->device, values, power->lambda_max_device,
                          (left < AT_ONCE ? left : AT_ONCE) * sizeof *values);
        if (ops->power_normalize)
            power->lambda_max = values[done % AT_ONCE];
        power->eta = (float)(STEP_SAFETY / fmax(power->lambda_max, 1e-30));
    }
}

static enum status iterate_times(struct csc_power *power, const float *weights, int iterations, bool fast,
                                 void *scratch)
{
    enum status status = STATUS_OK;
    struct conv *conv = fast ? power->fast_conv : power->conv;
    TRY(power->device->ops->conv_load(conv, weights, scratch));
    if (power->device->ops->power_normalize)
        for (int left = iterations; left > 0; left -= 2)
            TRY(iterate_on_device(power, conv, left > 1, scratch));
    else
        for (int i = 0; i < iterations; i++)
            TRY(conv->precision == PRECISION_BF16 ? iterate_rounded(power, scratch) : iterate(power, conv, scratch));
fail:
    return status;
}

enum status csc_power_advance(struct csc_power *power, const float *weights, int iterations, void *scratch)
{
    return iterate_times(power, weights, iterations, power->fast_conv != NULL, scratch);
}

/* vector = T(2 M / bound - 1) vector, normalised, with M = A A^T and T the Chebyshev polynomial of that degree:
 * within [-1, 1] for eigenvalues up to the bound and steep beyond it, where plain iteration takes thousands
 * of steps to tell close eigenvalues apart, as large images have. */
static enum status sweep(struct csc_power *power, int degree, double bound, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = power->device->ops;
    size_t count = conv_in_count(&power->shape);
    float *before = power->vector, *now = power->next;
    struct epilogue plain = { .alpha = 1 };
    for (int k = 1; k <= degree; k++) { /* T_k = 2 t T_k-1 - T_k-2, T_1 = t */
        float scale = (float)((k == 1 ? 2 : 4) / bound);
        const float *from = k == 1 ? before : now;
        struct epilogue shifted = { .alpha = scale, .beta = k == 1 ? -1 : -2, .add = from };
        TRY(ops->conv_forward(power->conv, from, power->code, &plain, scratch));
        TRY(ops->conv_adjoint(power->conv, power->code, k == 1 ? now : power->image, &shifted, scratch));
        if (k > 1) {
            ops->axpby_f32(power->device, 1, power->image, -1, before, before, count);
            float *swap = before;
            before = now;
            now = swap;
        }
    }
    normalize(power, now);
fail:
    return status;
}

/* A bound below lambda_max by 4 / degree^2 makes the polynomial 27 there, so that a sweep cleans the vector. */
enum status csc_power_converge(struct csc_power *power, const float *weights, void *scratch)
{
    enum status status = STATUS_OK;
    int degree = SWEEP_START, converged = 0;
    TRY(iterate_times(power, weights, SWEEP_START, false, scratch));
    csc_power_fetch(&power, 1);
    for (int i = 0; i < SWEEP_MAX && converged < SWEEP_PATIENCE && power->lambda_max > 0; i++) {
        double before = power->lambda_max;
        TRY(sweep(power, degree, before * (1 - 4.0 / degree / degree), scratch));
        TRY(iterate(power, power->conv, scratch));
        csc_power_fetch(&power, 1);
        converged = degree >= SWEEP_DEGREE / 2 && power->lambda_max - before < SWEEP_RISE * before ? converged + 1 : 0;
        degree = degree < SWEEP_DEGREE ? 2 * degree : degree;
    }
fail:
    return status;
}

/* ---- diagnostics, on the host ---- */

struct sums {
    double x2, r2, xr, z1, z2, max_correlation, excess;
    size_t nonzeros;
};

/* One image: x, r of `pixels` floats, z and c = A^T r of `codes`. */
static struct sums sum_image(const struct csc_config *config, const float *x, const float *r, size_t pixels,
                             const float *z, const float *c, size_t codes)
{
    struct sums s = { 0 };
    for (size_t i = 0; i < pixels; i++) {
        s.x2 += (double)x[i] * x[i];
        s.r2 += (double)r[i] * r[i];
        s.xr += (double)x[i] * r[i];
    }
    for (size_t i = 0; i < codes; i++) {
        double v = config->nonnegative ? c[i] : fabs(c[i]);
        s.z1 += fabs(z[i]);
        s.z2 += (double)z[i] * z[i];
        s.nonzeros += z[i] != 0;
        s.max_correlation = fmax(s.max_correlation, v);
        double over = fmax(v - config->lambda, 0);
        s.excess += over * over;
    }
    return s;
}

/* Primal minus dual value. The dual of the lasso is <x,t> - |t|^2/2 over |A^T t| <= lambda; t = s r with the
 * best feasible s. With mu > 0 the constraint becomes a penalty, and t = r. */
static double duality_gap(const struct csc_config *config, const struct sums *s)
{
    double primal = 0.5 * s->r2 + config->lambda * s->z1 + 0.5 * config->mu * s->z2;
    if (config->mu > 0)
        return primal - (s->xr - 0.5 * s->r2 - s->excess / (2 * config->mu));
    double scale = s->r2 > 0 ? s->xr / s->r2 : 0;
    if (s->max_correlation > 0)
        scale = fmin(scale, config->lambda / s->max_correlation);
    scale = fmax(scale, 0);
    return primal - (scale * s->xr - 0.5 * scale * scale * s->r2);
}

enum status csc_diagnose(struct csc *csc, const void *x, const void *z, struct csc_diagnostics *out, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    size_t images = conv_in_count(&csc->shape), codes = conv_out_count(&csc->shape), n = csc->shape.n;
    struct arena arena = { .memory = scratch, .size = csc->scratch };
    arena_take(&arena, csc->conv->scratch);
    size_t bytes = precision_bytes(csc->device->precision);
    char *r = arena_take(&arena, (images + codes) * bytes), *c = r + images * bytes;
    float *host = malloc(2 * (images + codes) * sizeof *host);
    if (!host)
        FAIL(STATUS_NOMEM, "out of memory for diagnostics");
    struct epilogue residual = { .alpha = -1, .beta = 1, .add = x }, plain = { .alpha = 1 };
    TRY(ops->conv_adjoint(csc->conv, z, r, &residual, scratch));
    TRY(ops->conv_forward(csc->conv, r, c, &plain, scratch));
    ops->download(csc->device, host, r, images + codes);
    ops->download(csc->device, host + images + codes, x, images);
    ops->download(csc->device, host + 2 * images + codes, z, codes);
    double x2 = 0, r2 = 0, gap = 0, nonzeros = 0;
    for (size_t i = 0; i < n; i++) {
        struct sums s = sum_image(&csc->config, host + images + codes + i * (images / n), host + i * (images / n),
                                  images / n, host + 2 * images + codes + i * (codes / n),
                                  host + images + i * (codes / n), codes / n);
        x2 += s.x2;
        r2 += s.r2;
        nonzeros += (double)s.nonzeros;
        gap += s.x2 > 0 ? duality_gap(&csc->config, &s) / (0.5 * s.x2) : 0;
    }
    *out = (struct csc_diagnostics){ .nonzeros = nonzeros / (double)codes,
                                     .residual = x2 > 0 ? r2 / x2 : 0,
                                     .gap = gap / (double)n };
fail:
    free(host);
    return status;
}
