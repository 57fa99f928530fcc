/* csc.c - convolutional sparse coding layer: FISTA forward, its reverse, one-step and implicit gradients.
 * With y_1 = z_1 and y_k = z_k-1 + m_k (z_k-1 - z_k-2), S the shrinkage with nu = 1 / (1 + mu eta), wg the weight
 * gradient:
 *   forward    z_1 = S(eta A^T x)     r_k = x - A y_k     z_k = S(y_k + eta A^T r_k)
 *   backward   d_k = nu 1[z_k != 0] g_k     q_k = A d_k     gy_k = d_k - eta A^T q_k
 *              dw += wg(r_k, d_k) - wg(q_k, y_k)     dx += q_k     (k = 1: wg(x, d_1), A d_1)
 *              g_k-1 += (1 + m_k) gy_k     g_k-2 -= m_k gy_k
 * Here g, d and gy are eta times the gradients of codes: the mask's pass multiplies by eta, so that the adjoints need
 * no factor. Two steps take 3 convolutions forward, 3 + 3 backward. In the code iterations count from 0. Where the
 * backend prefers the three wg of two steps stacked, csc_stacked.c does the backward pass. */
#include "layers/csc_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CG_ITERATIONS 50   /* at most; each takes two convolutions */
#define CG_TOLERANCE  1e-5 /* of the residual's norm */

static size_t code_bytes(const struct csc *csc)
{
    return conv_out_count(&csc->shape) * precision_bytes(csc->device->precision);
}

static size_t image_bytes(const struct csc *csc)
{
    return conv_in_count(&csc->shape) * precision_bytes(csc->device->precision);
}

/* Where iterates are not saved they lie in scratch: the codes of the last two iterations, and one y and r. */
struct forward_scratch {
    void *z[2], *y, *r;
};

static bool saves_all(const struct csc *csc)
{
    return csc->training && csc->config.backward == CSC_UNROLLED;
}

static struct forward_scratch carve_forward_scratch(const struct csc *csc, struct arena *arena)
{
    struct forward_scratch s = { 0 };
    if (saves_all(csc) || csc->config.steps == 1)
        return s;
    s.z[0] = arena_take(arena, code_bytes(csc));
    s.z[1] = arena_take(arena, code_bytes(csc));
    s.y = arena_take(arena, code_bytes(csc));
    s.r = arena_take(arena, image_bytes(csc));
    return s;
}

struct backward_scratch {
    void *code[3]; /* unrolled: gy, carry; implicit: solution, direction, operator times direction */
    void *q, *sum; /* images */
};

static struct backward_scratch carve_backward_scratch(const struct csc *csc, struct arena *arena)
{
    struct backward_scratch s = { 0 };
    if (csc->conv->prefers_stacked) {
        if (!csc->conv->prefers_stacked_inputs)
            s.q = arena_take(arena, image_bytes(csc));
        return s;
    }
    int codes = csc->config.backward == CSC_IMPLICIT ? 3 : csc->config.steps > 2 ? 2 : 1;
    for (int i = 0; i < codes; i++)
        s.code[i] = arena_take(arena, code_bytes(csc));
    s.q = arena_take(arena, image_bytes(csc));
    s.sum = arena_take(arena, image_bytes(csc));
    return s;
}

/* The scratch behind the convolution's own, as an arena. */
static struct arena scratch_after_conv(const struct csc *csc, void *scratch)
{
    struct arena arena = { .memory = scratch, .size = csc->scratch };
    arena_take(&arena, csc->conv->scratch);
    return arena;
}

static size_t scratch_bytes(const struct csc *csc)
{
    struct arena forward = { 0 }, backward = { 0 };
    arena_take(&forward, csc->conv->scratch);
    backward = forward;
    carve_forward_scratch(csc, &forward);
    arena_take(&forward, image_bytes(csc) + code_bytes(csc)); /* csc_diagnose */
    if (csc->training)
        carve_backward_scratch(csc, &backward);
    return forward.used > backward.used ? forward.used : backward.used;
}

static void fill_momenta(float *momenta, int steps)
{
    double t = 1;
    for (int k = 1; k < steps; k++) {
        double next = (1 + sqrt(1 + 4 * t * t)) / 2;
        momenta[k] = (float)((t - 1) / next);
        t = next;
    }
}

enum status csc_create(struct csc **out, struct device *device, const struct conv_shape *shape,
                       const struct csc_config *config, bool training)
{
    enum status status = STATUS_OK;
    struct csc *csc = calloc(1, sizeof *csc);
    if (!csc)
        FAIL(STATUS_NOMEM, "out of memory for a CSC-layer");
    *csc = (struct csc){ .device = device, .shape = *shape, .config = *config, .training = training };
    csc->momenta = calloc(config->steps, sizeof *csc->momenta);
    csc->z = calloc(config->steps, sizeof *csc->z);
    csc->y = calloc(config->steps, sizeof *csc->y);
    csc->r = calloc(config->steps, sizeof *csc->r);
    if (!csc->momenta || !csc->z || !csc->y || !csc->r)
        FAIL(STATUS_NOMEM, "out of memory for a CSC-layer");
    fill_momenta(csc->momenta, config->steps);
    TRY(device->ops->conv_create(
        device, shape, device->precision,
        CONV_FORWARD | CONV_ADJOINT | (training ? CONV_GRADIENT : 0) |
            (config->nonnegative ? CONV_HINT_CODE_EPILOGUE : 0) | (config->steps > 1 ? CONV_HINT_ACCUMULATE : 0) |
            (saves_all(csc) && config->steps == 2 ? CONV_TERMS_CONTIGUOUS | CONV_INPUT_UNCHANGED : 0),
        &csc->conv));
    csc->scratch = scratch_bytes(csc);
    *out = csc;
    csc = NULL;
fail:
    csc_destroy(csc);
    return status;
}

void csc_destroy(struct csc *csc)
{
    if (!csc)
        return;
    if (csc->conv)
        csc->device->ops->conv_destroy(csc->conv);
    free(csc->momenta);
    free(csc->z);
    free(csc->y);
    free(csc->r);
    free(csc);
}

static void assign_saved(struct csc *csc, struct arena *arena)
{
    int steps = csc->config.steps;
    csc->device->ops->conv_assign_memory(csc->conv, arena);
    if (csc->conv->prefers_stacked) {
        csc->z[0] = csc->y[1] = csc->code_stack;
        csc->r[1] = csc->image_stack ? csc->image_stack + 2 * image_bytes(csc) : NULL;
        if (!csc->conv->prefers_stacked_inputs)
            csc->r[1] = arena_take(arena, image_bytes(csc));
    } else if (saves_all(csc))
        for (int k = 0; k < steps - 1; k++) {
            csc->z[k] = arena_take(arena, code_bytes(csc));
            csc->r[k + 1] = arena_take(arena, image_bytes(csc));
            csc->y[k + 1] = k == 0 ? csc->z[0] : arena_take(arena, code_bytes(csc));
        }
    if (csc->training && csc->config.backward == CSC_ONE_STEP && steps > 1) {
        csc->saved_y = arena_take(arena, code_bytes(csc));
        csc->saved_r = arena_take(arena, image_bytes(csc));
    }
}

void csc_assign_memory_all(struct csc *const *layers, int count, struct arena *arena)
{
    csc_assign_stacks(layers, count, arena);
    for (int i = 0; i < count; i++)
        assign_saved(layers[i], arena);
}

void csc_assign_memory(struct csc *csc, struct arena *arena)
{
    csc_assign_memory_all(&csc, 1, arena);
}

enum status csc_load(struct csc *csc, const float *weights, void *scratch)
{
    return csc->device->ops->conv_load(csc->conv, weights, scratch);
}

/* Points z, y and r at scratch where nothing is saved; CSC_ONE_STEP saves what the last iteration uses. */
static void rotate_iterates(struct csc *csc, const struct forward_scratch *s)
{
    int steps = csc->config.steps;
    for (int k = 0; k < steps; k++) {
        csc->z[k] = s->z[k % 2];
        csc->y[k] = s->y;
        csc->r[k] = s->r;
    }
    if (csc->saved_y) {
        csc->r[steps - 1] = csc->saved_r;
        if (steps == 2)
            csc->z[0] = csc->saved_y;
        csc->y[steps - 1] = csc->saved_y;
    }
    if (steps > 1)
        csc->y[1] = csc->z[0];
}

void csc_step_scalars(const struct csc_config *config, float eta, float scalars[STEP_SCALARS])
{
    float nu = 1 / (1 + config->mu * eta);
    const float all[STEP_SCALARS] = { eta, nu, config->lambda * eta * nu, -eta, nu, 0, eta * nu };
    memcpy(scalars, all, sizeof all);
}

static struct epilogue shrinkage(const struct csc *csc, float eta, const void *y)
{
    float nu = 1 / (1 + csc->config.mu * eta);
    return (struct epilogue){ .kind = EPILOGUE_SHRINK,
                              .alpha = eta,
                              .beta = 1,
                              .add = y,
                              .nu = nu,
                              .threshold = csc->config.lambda * eta * nu,
                              .nonnegative = csc->config.nonnegative,
                              .device_scalars = csc->device_scalars };
}

enum status csc_forward(struct csc *csc, const void *x, float eta, void *z, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    int last = csc->config.steps - 1;
    struct arena arena = scratch_after_conv(csc, scratch);
    struct forward_scratch buffers = carve_forward_scratch(csc, &arena);
    if (!saves_all(csc))
        rotate_iterates(csc, &buffers);
    struct epilogue first = shrinkage(csc, eta, NULL);
    TRY(ops->conv_forward(csc->conv, x, last == 0 ? z : csc->z[0], &first, scratch));
    for (int k = 1; k <= last; k++) {
        float m = csc->momenta[k];
        void *y = csc->y[k];
        if (k > 1)
            ops->axpby_act(csc->device, 1 + m, csc->z[k - 1], -m, csc->z[k - 2], y, conv_out_count(&csc->shape));
        struct epilogue residual = { .alpha = -1, .beta = 1, .add = x };
        struct epilogue next = shrinkage(csc, eta, y);
        TRY(ops->conv_adjoint(csc->conv, y, csc->r[k], &residual, scratch));
        TRY(ops->conv_forward(csc->conv, csc->r[k], k == last ? z : csc->z[k], &next, scratch));
    }
fail:
    return status;
}

/* dx = [dx +] add + A d; add may be NULL. */
static enum status compute_dx(struct csc *csc, const void *d, const void *add, void *dx, bool accumulate, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    struct epilogue e = { .alpha = 1, .beta = 1, .add = accumulate ? dx : add };
    TRY(ops->conv_adjoint(csc->conv, d, dx, &e, scratch));
    if (accumulate && add)
        ops->axpby_act(csc->device, 1, dx, 1, add, dx, conv_in_count(&csc->shape));
fail:
    return status;
}

/* Through the last iteration alone, with y constant: dw = wg(r, d) - wg(q, y), dx = q. */
static enum status backward_one_step(struct csc *csc, void *d, void *dx, bool accumulate, float *dw,
                                     struct backward_scratch *s, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    const struct epilogue plain = { .alpha = 1 };
    void *q = dx && !accumulate ? dx : s->q;
    TRY(ops->conv_adjoint(csc->conv, d, q, &plain, scratch));
    const struct gradient_term terms[] = { { csc->saved_r, d, 1, NULL }, { q, csc->saved_y, -1, NULL } };
    if (dw)
        TRY(ops->conv_gradient(csc->conv, terms, 2, dw, scratch));
    if (dx && accumulate)
        ops->axpby_act(csc->device, 1, dx, 1, q, dx, conv_in_count(&csc->shape));
fail:
    return status;
}

/* out = factor * in where z != 0, else 0. device_factor: the factor in device memory, used instead if not NULL. */
static void mask(struct csc *csc, const void *in, const void *z, float factor, const float *device_factor, void *out)
{
    const struct backend *ops = csc->device->ops;
    if (device_factor)
        ops->mask_device_scale(csc->device, in, z, device_factor, out, conv_out_count(&csc->shape));
    else
        ops->mask(csc->device, in, z, factor, out, conv_out_count(&csc->shape));
}

/* Iterations last .. 1 of more than two steps: leaves g_0 in g and the sum of the q_k in s->sum. */
static enum status unroll_long(struct csc *csc, float eta, float nu, void *g, float *dw, struct backward_scratch *s,
                               void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    size_t codes = conv_out_count(&csc->shape), pixels = conv_in_count(&csc->shape);
    const float *device_scalars = csc->device_scalars ? csc->device_scalars + 3 : NULL;
    const struct epilogue plain = { .alpha = 1 };
    void *gy = s->code[0], *carry = s->code[1];
    int last = csc->config.steps - 1;
    for (int k = last; k >= 1; k--) {
        struct epilogue rest = { .alpha = -eta, .beta = 1, .add = g, .nu = 1, .device_scalars = device_scalars };
        float m = csc->momenta[k];
        TRY(ops->conv_adjoint(csc->conv, g, k == last ? s->sum : s->q, &plain, scratch));
        const void *q = k == last ? s->sum : s->q;
        const struct gradient_term terms[] = { { csc->r[k], g, 1, NULL }, { q, csc->y[k], -1, NULL } };
        if (dw)
            TRY(ops->conv_gradient(csc->conv, terms, 2, dw, scratch));
        TRY(ops->conv_forward(csc->conv, q, gy, &rest, scratch));
        if (k < last)
            ops->axpby_act(csc->device, 1, s->sum, 1, s->q, s->sum, pixels);
        ops->axpby_act(csc->device, 1 + m, gy, k < last ? 1 : 0, k < last ? carry : gy, g, codes);
        if (k > 1)
            ops->axpby_act(csc->device, -m, gy, 0, gy, carry, codes);
        mask(csc, g, csc->z[k - 1], nu, csc->device_scalars ? csc->device_scalars + 1 : NULL, g);
    }
fail:
    return status;
}

static enum status backward_unrolled(struct csc *csc, const void *x, float eta, void *g, void *dx, bool accumulate,
                                     float *dw, struct backward_scratch *s, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    float nu = 1 / (1 + csc->config.mu * eta);
    const void *sum = NULL, *d = g;
    if (csc->config.steps == 2) { /* all three weight gradients in one call */
        const struct epilogue plain = { .alpha = 1 };
        struct epilogue masked = { .kind = EPILOGUE_MASK,
                                   .alpha = -eta,
                                   .beta = 1,
                                   .add = g,
                                   .nu = nu,
                                   .mask = csc->z[0],
                                   .device_scalars = csc->device_scalars ? csc->device_scalars + 3 : NULL };
        TRY(ops->conv_adjoint(csc->conv, g, s->q, &plain, scratch));
        TRY(ops->conv_forward(csc->conv, s->q, s->code[0], &masked, scratch));
        const struct gradient_term terms[] = { { x, s->code[0], 1, NULL },
                                               { csc->r[1], g, 1, NULL },
                                               { s->q, csc->z[0], -1, NULL } };
        if (dw)
            TRY(ops->conv_gradient(csc->conv, terms, 3, dw, scratch));
        sum = s->q;
        d = s->code[0];
    } else {
        if (csc->config.steps > 2) {
            TRY(unroll_long(csc, eta, nu, g, dw, s, scratch));
            sum = s->sum;
        }
        const struct gradient_term term = { x, g, 1, NULL };
        if (dw)
            TRY(ops->conv_gradient(csc->conv, &term, 1, dw, scratch));
    }
    if (dx)
        TRY(compute_dx(csc, d, sum, dx, accumulate, scratch));
fail:
    return status;
}

/* Solves (A^T A + mu) h = g on the support of z by conjugate gradients; overwrites g. */
static enum status solve_on_support(struct csc *csc, const void *z, void *g, void *h, struct backward_scratch *s,
                                    void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    size_t count = conv_out_count(&csc->shape);
    void *p = s->code[1], *product = s->code[2];
    struct epilogue plain = { .alpha = 1 };
    struct epilogue masked = {
        .kind = EPILOGUE_MASK, .alpha = 1, .beta = csc->config.mu, .add = p, .nu = 1, .mask = z
    };
    double norm = ops->dot_act(csc->device, g, g, count), stop = norm * CG_TOLERANCE * CG_TOLERANCE;
    ops->zero(csc->device, h, code_bytes(csc));
    ops->axpby_act(csc->device, 1, g, 0, g, p, count);
    for (int i = 0; i < CG_ITERATIONS && norm > stop; i++) {
        TRY(ops->conv_adjoint(csc->conv, p, s->q, &plain, scratch));
        TRY(ops->conv_forward(csc->conv, s->q, product, &masked, scratch));
        double curvature = ops->dot_act(csc->device, p, product, count);
        if (!(curvature > 0))
            break;
        float step = (float)(norm / curvature);
        ops->axpby_act(csc->device, 1, h, step, p, h, count);
        ops->axpby_act(csc->device, 1, g, -step, product, g, count);
        double next = ops->dot_act(csc->device, g, g, count);
        ops->axpby_act(csc->device, 1, g, (float)(next / norm), p, p, count);
        norm = next;
    }
fail:
    return status;
}

/* The gradient of the fixed point A_S^T (x - A z) - mu z = lambda: with h of solve_on_support, dx = A h and
 * dw = wg(x - A z, h) - wg(A h, z). */
static enum status backward_implicit(struct csc *csc, const void *x, const void *z, void *g, void *dx, bool accumulate,
                                     float *dw, struct backward_scratch *s, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    void *h = s->code[0], *residual = s->sum;
    struct epilogue plain = { .alpha = 1 }, rest = { .alpha = -1, .beta = 1, .add = x };
    TRY(solve_on_support(csc, z, g, h, s, scratch));
    TRY(ops->conv_adjoint(csc->conv, h, s->q, &plain, scratch));
    TRY(ops->conv_adjoint(csc->conv, z, residual, &rest, scratch));
    const struct gradient_term terms[] = { { residual, h, 1, NULL }, { s->q, z, -1, NULL } };
    if (dw)
        TRY(ops->conv_gradient(csc->conv, terms, 2, dw, scratch));
    if (dx)
        ops->axpby_act(csc->device, 1, s->q, accumulate ? 1 : 0, accumulate ? dx : s->q, dx,
                       conv_in_count(&csc->shape));
fail:
    return status;
}

float csc_mask_factor(const struct csc *csc, float eta)
{
    float nu = 1 / (1 + csc->config.mu * eta);
    return csc->config.backward == CSC_IMPLICIT ? 1 : eta * nu;
}

const float *csc_mask_factor_device(const struct csc *csc)
{
    return csc->device_scalars && csc->config.backward != CSC_IMPLICIT ? csc->device_scalars + 6 : NULL;
}

enum status csc_backward(struct csc *csc, const void *x, float eta, const void *z, void *dz, bool masked, void *dx,
                         bool accumulate, float *dw, void *scratch)
{
    struct arena arena = scratch_after_conv(csc, scratch);
    struct backward_scratch s = carve_backward_scratch(csc, &arena);
    void *g = csc->conv->prefers_stacked ? csc_stacked_gradient(csc) : dz;
    if (!masked)
        mask(csc, dz, z, csc_mask_factor(csc, eta), csc_mask_factor_device(csc), g);
    else if (g != dz)
        csc->device->ops->axpby_act(csc->device, 1, dz, 0, dz, g, conv_out_count(&csc->shape));
    if (csc->conv->prefers_stacked)
        return csc_backward_stacked(csc, x, eta, dx, accumulate, dw, s.q, scratch);
    if (csc->config.backward == CSC_IMPLICIT)
        return backward_implicit(csc, x, z, dz, dx, accumulate, dw, &s, scratch);
    if (csc->config.backward == CSC_ONE_STEP && csc->config.steps > 1)
        return backward_one_step(csc, dz, dx, accumulate, dw, &s, scratch);
    return backward_unrolled(csc, x, eta, dz, dx, accumulate, dw, &s, scratch);
}
