/* ref.c - the plain backend's table, and its small operations. */
#include "layers/ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum status host_allocate(struct device *device, struct arena *arena)
{
    (void)device;
    return arena_allocate(arena);
}

static void host_finish(struct device *device, struct arena *arena)
{
    (void)device;
    arena_finish(arena);
}

static void copy(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
}

static void zero(struct device *device, void *data, size_t bytes)
{
    (void)device;
    memset(data, 0, bytes);
}

static void mask(struct device *device, const float *in, const float *by, float nu, float *out, size_t count)
{
    (void)device;
    for (size_t i = 0; i < count; i++)
        out[i] = by[i] != 0 ? nu * in[i] : 0;
}

static void lincomb(struct device *device, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    (void)device;
    for (size_t i = 0; i < count; i++)
        out[i] = (float)((double)a * x[i] + (double)b * y[i]);
}

static double dot(struct device *device, const float *x, const float *y, size_t count)
{
    (void)device;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

static void max_forward(struct device *device, const struct pool_shape *s, const float *x, float *y, int32_t *winner)
{
    (void)device;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    for (size_t o = 0; o < (size_t)s->n * oh * ow * s->c; o++) {
        int c = (int)(o % s->c), j = (int)(o / s->c % ow), i = (int)(o / s->c / ow % oh);
        size_t n = o / s->c / ow / oh;
        float best = -INFINITY;
        int32_t at = -1;
        for (int a = i * s->stride - s->pad; a < i * s->stride - s->pad + s->k; a++)
            for (int b = j * s->stride - s->pad; b < j * s->stride - s->pad + s->k; b++) {
                if (a < 0 || a >= s->h || b < 0 || b >= s->w)
                    continue;
                float v = x[((n * s->h + a) * s->w + b) * s->c + c];
                if (at < 0 || v > best) {
                    best = v;
                    at = a * s->w + b;
                }
            }
        y[o] = best;
        winner[o] = at;
    }
}

static void max_backward(struct device *device, const struct pool_shape *s, const float *dy, const int32_t *winner,
                         float *dx, bool accumulate)
{
    (void)device;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    size_t image = (size_t)s->h * s->w * s->c, outputs = (size_t)oh * ow * s->c;
    if (!accumulate)
        memset(dx, 0, s->n * image * sizeof *dx);
    for (size_t o = 0; o < s->n * outputs; o++)
        dx[o / outputs * image + (size_t)winner[o] * s->c + o % s->c] += dy[o];
}

static void mean_forward(struct device *device, int n, int hw, int c, const float *x, float *y)
{
    (void)device;
    for (int i = 0; i < n * c; i++) {
        double sum = 0;
        for (int p = 0; p < hw; p++)
            sum += x[((size_t)(i / c) * hw + p) * c + i % c];
        y[i] = (float)(sum / hw);
    }
}

static void mean_backward(struct device *device, int n, int hw, int c, const float *dy, float *dx)
{
    (void)device;
    for (size_t i = 0; i < (size_t)n * hw * c; i++)
        dx[i] = dy[i / c / hw * c + i % c] / (float)hw;
}

static void linear_forward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y)
{
    for (int i = 0; i < n; i++)
        for (int o = 0; o < k; o++)
            y[i * k + o] = (float)(b[o] + dot(device, x + (size_t)i * c, w + (size_t)o * c, c));
}

static void linear_backward(struct device *device, int n, int c, int k, const float *x, const float *w,
                            const float *dy, float *dx, float *dw, float *db)
{
    (void)device;
    for (int o = 0; o < k; o++) {
        double bias = 0;
        for (int i = 0; i < n; i++)
            bias += dy[i * k + o];
        db[o] += (float)bias;
        for (int j = 0; j < c; j++) {
            double sum = 0;
            for (int i = 0; i < n; i++)
                sum += (double)dy[i * k + o] * x[(size_t)i * c + j];
            dw[(size_t)o * c + j] += (float)sum;
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < c; j++) {
            double sum = 0;
            for (int o = 0; o < k; o++)
                sum += (double)dy[i * k + o] * w[(size_t)o * c + j];
            dx[(size_t)i * c + j] = (float)sum;
        }
}

static void cross_entropy(struct device *device, int n, int k, const float *logits, const int32_t *labels,
                          float smoothing, float scale, float *losses, float *dlogits)
{
    (void)device;
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * k;
        double top = row[0], sum = 0, mean = 0;
        losses[i] = 0;
        for (int j = 1; j < k; j++)
            top = fmax(top, row[j]);
        for (int j = 0; j < k; j++) {
            sum += exp(row[j] - top);
            mean += row[j] / (double)k;
        }
        double log_sum = top + log(sum);
        if (labels[i] >= 0)
            losses[i] = (float)((1 - smoothing) * (log_sum - row[labels[i]]) + smoothing * (log_sum - mean));
        for (int j = 0; dlogits && j < k; j++) {
            double target = (j == labels[i] ? 1 - smoothing : 0) + smoothing / (double)k;
            dlogits[(size_t)i * k + j] = labels[i] < 0 ? 0 : (float)(scale * (exp(row[j] - log_sum) - target));
        }
    }
}

static void sgd(struct device *device, const struct sgd *sgd, float *w, const float *g, float *v, size_t count)
{
    (void)device;
    for (size_t i = 0; i < count; i++) {
        float step = g[i] + sgd->weight_decay * w[i];
        v[i] = sgd->first ? step : sgd->momentum * v[i] + step;
        w[i] -= sgd->lr * (sgd->nesterov ? step + sgd->momentum * v[i] : v[i]);
    }
}

static void normalize_rows(struct device *device, float *w, int rows, size_t length)
{
    for (int r = 0; r < rows; r++) {
        float *row = w + r * length;
        double norm = fmax(sqrt(dot(device, row, row, length)), 1e-12);
        for (size_t i = 0; i < length; i++)
            row[i] = (float)(row[i] / norm);
    }
}

static void close_device(struct device *device)
{
    free(device);
}

const struct backend ref_backend = {
    .name = "ref",
    .arena_allocate = host_allocate, .arena_finish = host_finish,
    .copy_in = copy, .copy_out = copy, .zero = zero, .close = close_device,
    .conv_create = ref_conv_create, .conv_destroy = ref_conv_destroy, .conv_place = ref_conv_place,
    .conv_load = ref_conv_load, .conv_forward = ref_conv_forward, .conv_adjoint = ref_conv_adjoint,
    .conv_gradient = ref_conv_gradient,
    .mask = mask, .lincomb = lincomb, .dot = dot,
    .norm_forward = ref_norm_forward, .norm_inference = ref_norm_inference, .norm_backward = ref_norm_backward,
    .max_forward = max_forward, .max_backward = max_backward,
    .mean_forward = mean_forward, .mean_backward = mean_backward,
    .linear_forward = linear_forward, .linear_backward = linear_backward,
    .cross_entropy = cross_entropy, .sgd = sgd, .normalize_rows = normalize_rows,
};

enum status ref_open(struct device **device, int threads)
{
    enum status status = STATUS_OK;
    struct device *d = calloc(1, sizeof *d);
    if (!d)
        FAIL(STATUS_NOMEM, "out of memory");
    *d = (struct device){ .ops = &ref_backend, .threads = threads };
    *device = d;
fail:
    return status;
}
