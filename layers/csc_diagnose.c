/* csc_diagnose.c - how well codes are: sparsity, residual and duality gap, computed on the host. */
#include <math.h>
#include <stdlib.h>

#include "layers/csc.h"

struct image_sums {
    double x2, r2, xr, z1, z2, max_correlation, excess;
    size_t nonzeros;
};

/* Sums over one image: x and r have `pixels` floats, z and c = A^T r have `codes`. */
static struct image_sums sum_image(const struct csc_config *config, const float *x, const float *r, size_t pixels,
                                   const float *z, const float *c, size_t codes)
{
    struct image_sums s = { 0 };
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

/* The primal minus a dual value. The dual of the lasso is to maximise <x,t> - |t|^2/2 with |A^T t| <= lambda; here t =
 * s r with the best feasible s. With mu > 0 the constraint becomes a penalty, and t = r. */
static double duality_gap(const struct csc_config *config, const struct image_sums *s)
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
        struct image_sums s = sum_image(&csc->config, host + images + codes + i * (images / n), host + i * (images / n),
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
