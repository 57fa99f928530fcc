/* ref.c - the plain backend's table, and all its operations but convolution and batch norm. */
#include "layers/backend/ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/element.h"

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

static void upload(struct device *device, void *to, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        element_store(device->precision, to, i, from[i]);
}

static void download(struct device *device, float *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = element_load(device->precision, from, i);
}

static void mask(struct device *device, const void *in, const void *by, float nu, void *out, size_t count)
{
    enum precision p = device->precision;
    for (size_t i = 0; i < count; i++)
        element_store(p, out, i, element_load(p, by, i) != 0 ? nu * element_load(p, in, i) : 0);
}

static void axpby_act(struct device *device, float a, const void *x, float b, const void *y, void *out, size_t count)
{
    enum precision p = device->precision;
    for (size_t i = 0; i < count; i++)
        element_store(p, out, i, (float)((double)a * element_load(p, x, i) + (double)b * element_load(p, y, i)));
}

static double dot_act(struct device *device, const void *x, const void *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)element_load(device->precision, x, i) * element_load(device->precision, y, i);
    return sum;
}

static void axpby_f32(struct device *device, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    (void)device;
    for (size_t i = 0; i < count; i++)
        out[i] = (float)((double)a * x[i] + (double)b * y[i]);
}

static double dot_f32(struct device *device, const float *x, const float *y, size_t count)
{
    (void)device;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

static void max_forward(struct device *device, const struct pool_shape *s, const void *x, void *y, int32_t *argmax)
{
    enum precision p = device->precision;
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
                float v = element_load(p, x, ((n * s->h + a) * s->w + b) * s->c + c);
                if (at < 0 || v > best) {
                    best = v;
                    at = a * s->w + b;
                }
            }
        element_store(p, y, o, best);
        argmax[o] = at;
    }
}

static void max_backward(struct device *device, const struct pool_shape *s, const void *dy, const int32_t *argmax,
                         void *dx, bool accumulate)
{
    enum precision p = device->precision;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    size_t image = (size_t)s->h * s->w * s->c, outputs = (size_t)oh * ow * s->c;
    float *sums = calloc(s->n * image, sizeof *sums);
    if (!sums)
        abort(); /* only tests use this backend */
    for (size_t o = 0; o < s->n * outputs; o++)
        sums[o / outputs * image + (size_t)argmax[o] * s->c + o % s->c] += element_load(p, dy, o);
    for (size_t i = 0; i < s->n * image; i++)
        element_store(p, dx, i, (accumulate ? element_load(p, dx, i) : 0) + sums[i]);
    free(sums);
}

static void mean_forward(struct device *device, int n, int hw, int c, const void *x, float *y)
{
    enum precision p = device->precision;
    for (int i = 0; i < n * c; i++) {
        double sum = 0;
        for (int at = 0; at < hw; at++)
            sum += element_load(p, x, ((size_t)(i / c) * hw + at) * c + i % c);
        y[i] = (float)(sum / hw);
    }
}

static void mean_backward(struct device *device, int n, int hw, int c, const float *dy, void *dx)
{
    enum precision p = device->precision;
    for (size_t i = 0; i < (size_t)n * hw * c; i++)
        element_store(p, dx, i, dy[i / c / hw * c + i % c] / (float)hw);
}

static void linear_forward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y)
{
    for (int i = 0; i < n; i++)
        for (int o = 0; o < k; o++)
            y[i * k + o] = (float)(b[o] + dot_f32(device, x + (size_t)i * c, w + (size_t)o * c, c));
}

static void linear_backward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *dy,
                            float *dx, float *dw, float *db)
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
                          float smoothing, float scale, float *losses, float *mean, float *dlogits)
{
    double total = 0;
    int counted = 0;
    (void)device;
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * k;
        double top = row[0], sum = 0, middle = 0;
        losses[i] = 0;
        for (int j = 1; j < k; j++)
            top = fmax(top, row[j]);
        for (int j = 0; j < k; j++) {
            sum += exp(row[j] - top);
            middle += row[j] / (double)k;
        }
        double log_sum = top + log(sum);
        if (labels[i] >= 0)
            losses[i] = (float)((1 - smoothing) * (log_sum - row[labels[i]]) + smoothing * (log_sum - middle));
        total += losses[i];
        counted += labels[i] >= 0;
        for (int j = 0; dlogits && j < k; j++) {
            double target = (j == labels[i] ? 1 - smoothing : 0) + smoothing / (double)k;
            dlogits[(size_t)i * k + j] = labels[i] < 0 ? 0 : (float)(scale * (exp(row[j] - log_sum) - target));
        }
    }
    if (mean)
        *mean = (float)(total / (counted > 0 ? counted : 1));
}

static void normalize_rows(struct device *device, float *w, int rows, size_t length)
{
    for (int r = 0; r < rows; r++) {
        float *row = w + r * length;
        double norm = fmax(sqrt(dot_f32(device, row, row, length)), 1e-12);
        for (size_t i = 0; i < length; i++)
            row[i] = (float)(row[i] / norm);
    }
}

static void sgd(struct device *device, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count)
{
    for (int r = 0; r < count; r++) {
        float decay = rows[r].decays ? sgd->weight_decay : 0;
        for (size_t i = rows[r].offset; i < rows[r].offset + (size_t)rows[r].length; i++) {
            float step = sgd->scale * g[i] + decay * w[i];
            v[i] = sgd->first ? step : sgd->momentum * v[i] + step;
            w[i] -= sgd->lr * (sgd->nesterov ? step + sgd->momentum * v[i] : v[i]);
        }
        if (rows[r].atom)
            normalize_rows(device, w + rows[r].offset, 1, rows[r].length);
    }
}

static void close_device(struct device *device)
{
    free(device);
}

const struct backend ref_backend = {
    .name = "ref",
    .arena_allocate = host_allocate,
    .arena_finish = host_finish,
    .copy_in = copy,
    .copy_out = copy,
    .zero = zero,
    .upload = upload,
    .download = download,
    .close = close_device,
    .conv_create = ref_conv_create,
    .conv_destroy = ref_conv_destroy,
    .conv_assign_memory = ref_conv_assign_memory,
    .conv_load = ref_conv_load,
    .conv_forward = ref_conv_forward,
    .conv_adjoint = ref_conv_adjoint,
    .conv_gradient = ref_conv_gradient,
    .mask = mask,
    .axpby_act = axpby_act,
    .dot_act = dot_act,
    .axpby_f32 = axpby_f32,
    .dot_f32 = dot_f32,
    .norm_forward = ref_norm_forward,
    .norm_inference = ref_norm_inference,
    .norm_backward = ref_norm_backward,
    .max_forward = max_forward,
    .max_backward = max_backward,
    .mean_forward = mean_forward,
    .mean_backward = mean_backward,
    .linear_forward = linear_forward,
    .linear_backward = linear_backward,
    .cross_entropy = cross_entropy,
    .sgd = sgd,
    .normalize_rows = normalize_rows,
};

enum status ref_open(struct device **device, enum precision precision, int threads)
{
    enum status status = STATUS_OK;
    struct device *d = NULL;
    if (precision == PRECISION_TF32)
        FAIL(STATUS_USAGE, "device.precision: tf32 exists on cuda only");
    d = calloc(1, sizeof *d);
    if (!d)
        FAIL(STATUS_NOMEM, "out of memory");
    *d = (struct device){ .ops = &ref_backend, .precision = precision, .threads = threads };
    *device = d;
fail:
    return status;
}
