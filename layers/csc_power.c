/* csc_power.c - the step size of a CSC-layer, eta = 0.9 / lambda_max(A^T A), by power iteration on one image.
 * A training step takes a few iterations from the last vector; before training, Chebyshev polynomials of A A^T converge
 * it. */
#include <math.h>
#include <stdlib.h>

#include "base/philox.h"
#include "layers/csc.h"

#define SWEEP_START    16   /* plain iterations before the first sweep, and the degree of its polynomial */
#define SWEEP_DEGREE   256  /* largest degree; it doubles from one sweep to the next */
#define SWEEP_MAX      40   /* sweeps before convergence is given up */
#define SWEEP_RISE     1e-6 /* lambda_max has converged if a sweep raises it by less than this, relatively, */
#define SWEEP_PATIENCE 2    /* this many times in a row */
#define STEP_SAFETY    0.9  /* eta = 0.9 / lambda_max, as published */

/* The precision of a training step's iterations: tf32 on a GPU, unless the network is in fp32; the network's on a CPU,
 * unless there are so many more weights than pixels that rounding and packing them costs more than bf16 saves. */
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

/* One iteration or two, without a wait, on a device with power_normalize. Of two, the first is v = A A^T v alone. */
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

/* One iteration: lambda_max = |A^T v|^2 / |v|^2, then v = A A^T v / |A A^T v|. */
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

/* The same with bf16 operands. An error of v changes lambda_max by the error's square only. */
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
    enum { CHUNK = 64 };
    double values[CHUNK];
    for (int done = 0; done < count; done++) {
        struct csc_power *power = powers[done];
        const struct backend *ops = power->device->ops;
        int left = count - done; /* those of a chunk come with one copy */
        if (ops->power_normalize && done % CHUNK == 0)
            ops->copy_out(power->device, values, power->lambda_max_device,
                          (left < CHUNK ? left : CHUNK) * sizeof *values);
        if (ops->power_normalize)
            power->lambda_max = values[done % CHUNK];
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

/* vector = T(2 M / bound - 1) vector, normalised, with M = A A^T and T the Chebyshev polynomial of that degree. T is
 * within
 * [-1, 1] for eigenvalues up to the bound and grows steeply beyond it. Plain iteration would take thousands of steps to
 * separate close eigenvalues, as large images have them. */
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

/* The bound is below lambda_max by a factor of 1 - 4 / degree^2. There T is 27, so that a sweep removes the other
 * eigenvectors. */
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
