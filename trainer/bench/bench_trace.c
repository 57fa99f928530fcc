/* bench_trace.c - a table of operations that calls the device's own and times each call. The CPU's operations are
 * complete when they return; on a GPU each one is waited for. So their times add up to the time of a step. */
#include "base/clock.h"
#include "trainer/bench/bench_trace.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "trainer/bench/bench.h"

enum { MAX_LINES = 1024 };

static const struct backend *device_ops; /* the device's own table */
static struct backend table;
static size_t element; /* bytes of an activation */
static struct trace_line lines[MAX_LINES];
static int lines_count;
static bool overflowed; /* a line did not fit, which was logged */

/* Waits until the device has completed all operations, and returns the time. */
static double seconds_when_done(struct device *device)
{
    if (device_ops->synchronize)
        device_ops->synchronize(device);
    return clock_seconds();
}

static void add(double seconds, double flops, double moved, double minimum, const char *name, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

static void add(double seconds, double flops, double moved, double minimum, const char *name, const char *format, ...)
{
    struct trace_line new = { .calls = 0 }, *line = lines;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(new.shape, sizeof new.shape, format, arguments);
    va_end(arguments);
    snprintf(new.name, sizeof new.name, "%s", name);
    while (line < lines + lines_count && (strcmp(line->name, new.name) || strcmp(line->shape, new.shape)))
        line++;
    if (line == lines + MAX_LINES) {
        if (!overflowed)
            log_warn("the trace has more than %d different operations: others are left out", MAX_LINES);
        overflowed = true;
        return;
    }
    if (line == lines + lines_count) {
        *line = new;
        lines_count++;
    }
    line->calls++;
    line->seconds += seconds;
    line->flops += flops;
    line->moved += moved;
    line->minimum += minimum;
}

/* ---- convolutions ---- */

static double conv_flops(const struct conv_shape *s)
{
    return 2.0 * (double)conv_out_count(s) * s->k * s->k * s->c;
}

static void add_conv(const struct conv *conv, const char *name, double seconds, double flops, double elements)
{
    const struct conv_shape *s = &conv->shape;
    double bytes = elements * (double)precision_bytes(conv->precision) + 4.0 * (double)conv_weight_count(s);
    add(seconds, flops, bytes + conv->extra_bytes, bytes, name, "%dx%dx%dx%d, %d atoms %dx%d/%d%s%s", s->n, s->h, s->w,
        s->c, s->d, s->k, s->k, s->stride, conv->method ? ", " : "", conv->method ? conv->method : "");
}

/* The number of operands of the result's size that an epilogue reads. */
static double operands(const struct epilogue *e)
{
    return (e->add != NULL) + (e->kind == EPILOGUE_MASK);
}

static enum status conv_load(struct conv *conv, const float *weights, void *scratch)
{
    double began = clock_seconds();
    enum status status = device_ops->conv_load(conv, weights, scratch);
    conv->method = NULL;
    conv->extra_bytes = 0;
    add_conv(conv, "conv_load", seconds_when_done(conv->device) - began, 0, 0);
    return status;
}

static enum status conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    double began = clock_seconds();
    enum status status = device_ops->conv_forward(conv, in, out, e, scratch);
    add_conv(conv, "conv_forward", seconds_when_done(conv->device) - began, conv_flops(&conv->shape),
             (double)conv_in_count(&conv->shape) + (1 + operands(e)) * (double)conv_out_count(&conv->shape));
    return status;
}

static enum status conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    double began = clock_seconds();
    enum status status = device_ops->conv_adjoint(conv, in, out, e, scratch);
    add_conv(conv, "conv_adjoint", seconds_when_done(conv->device) - began, conv_flops(&conv->shape),
             (double)conv_out_count(&conv->shape) + (1 + operands(e)) * (double)conv_in_count(&conv->shape));
    return status;
}

static enum status conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch)
{
    double began = clock_seconds();
    enum status status = device_ops->conv_gradient(conv, terms, count, dw, scratch);
    add_conv(conv,
             count == 1   ? "conv_gradient"
             : count == 2 ? "conv_gradient of 2"
                          : "conv_gradient of 3",
             seconds_when_done(conv->device) - began, count * conv_flops(&conv->shape),
             count * (double)(conv_in_count(&conv->shape) + conv_out_count(&conv->shape)));
    return status;
}

/* ---- the rest: passes over activations and floats ---- */

/* Makes the call and adds it to the trace: it moves so many activations (elements; minimum: if each operand were read
 * or written once) and floats. The last arguments are the shape, as for printf. PASS: the operation under its own name.
 */
#define PASSES(name, elements, minimum, floats, call, ...)                                                   \
    double began = clock_seconds();                                                                          \
    call;                                                                                                    \
    add(seconds_when_done(device) - began, 0, (double)(elements) * (double)element + 4.0 * (double)(floats), \
        (double)(minimum) * (double)element + 4.0 * (double)(floats), name, __VA_ARGS__)
#define PASS(operation, arguments, elements, floats, ...) \
    PASSES(#operation, elements, elements, floats, device_ops->operation arguments, __VA_ARGS__)

static void upload(struct device *device, void *to, const float *from, size_t count)
{
    PASS(upload, (device, to, from, count), count, count, "%zu", count);
}

/* Counts the raw bytes as quarters of a float. */
static void upload_pixels(struct device *device, void *to, const void *raw, size_t bytes, int count, int size,
                          const struct pixel_scale *scale)
{
    PASSES("upload", (size_t)count * size * size * 3, (size_t)count * size * size * 3, bytes / 4,
           device_ops->upload_pixels(device, to, raw, bytes, count, size, scale), "%d of %dx%d", count, size, size);
}

static void power_normalize(struct device *device, const float *code, size_t codes, const float *from,
                            const float *image, size_t pixels, float *v, double *quotient)
{
    PASSES("power_normalize", 0, 0, codes + 4 * pixels,
           device_ops->power_normalize(device, code, codes, from, image, pixels, v, quotient), "%zu", codes);
}

static void zero(struct device *device, void *data, size_t bytes)
{
    PASS(zero, (device, data, bytes), 0, bytes / 4, "%zu", bytes / 4);
}

static void mask(struct device *device, const void *in, const void *by, float nu, void *out, size_t count)
{
    PASS(mask, (device, in, by, nu, out, count), 3 * count, 0, "%zu", count);
}

static void mask_device_scale(struct device *device, const void *in, const void *by, const float *nu, void *out,
                              size_t count)
{
    bool scales = in == by; /* scales by a factor in device memory */
    PASSES(scales ? "scale" : "mask", (scales ? 2 : 3) * count, (scales ? 2 : 3) * count, 0,
           device_ops->mask_device_scale(device, in, by, nu, out, count), "%zu", count);
}

static void axpby_act(struct device *device, float a, const void *x, float b, const void *y, void *out, size_t count)
{
    PASS(axpby_act, (device, a, x, b, y, out, count), 3 * count, 0, "%zu", count);
}

static double dot_act(struct device *device, const void *x, const void *y, size_t count)
{
    double sum;
    PASSES("dot_act", 2 * count, 2 * count, 0, sum = device_ops->dot_act(device, x, y, count), "%zu", count);
    return sum;
}

static void axpby_f32(struct device *device, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    PASS(axpby_f32, (device, a, x, b, y, out, count), 0, 3 * count, "%zu", count);
}

static double dot_f32(struct device *device, const float *x, const float *y, size_t count)
{
    double sum;
    PASSES("dot_f32", 0, 0, 2 * count, sum = device_ops->dot_f32(device, x, y, count), "%zu", count);
    return sum;
}

/* The bytes of the ReLU mask, if there is one. */
static size_t bits_of(const struct norm_shape *s)
{
    return s->relu_mask ? s->rows * s->c / 8 : 0;
}

/* In the forward pass all backends read x twice, once for the statistics. */
static void norm_forward(struct device *device, const struct norm_shape *s, const void *x, const float *gamma,
                         const float *beta, const void *added, void *y, float *saved, float *moments)
{
    size_t count = s->rows * s->c;
    PASSES("norm_forward", count * (added ? 4 : 3), count * (added ? 3 : 2), bits_of(s) / 4,
           device_ops->norm_forward(device, s, x, gamma, beta, added, y, saved, moments), "%zu rows of %d%s%s", s->rows,
           s->c, added ? ", add" : "", s->relu ? ", relu" : "");
}

/* How many times the two passes of a backward norm read or write an activation of x's size. A GPU computes the
 * mask of a ReLU without add from x. Otherwise it stores the masked gradient in dadd, unless it has to accumulate
 * there. */
static int backward_passes(const struct norm_shape *s, bool adds, bool accumulate)
{
    bool gpu = device_ops->stream != NULL;
    if (!gpu)
        return 5 + (s->relu ? 2 : 0) + (adds ? 1 + accumulate : 0);
    return !adds ? 5 : !s->relu ? 6 + accumulate : (accumulate ? 9 : 7) - (s->relu_mask ? 1 + accumulate : 0);
}

static void norm_backward(struct device *device, const struct norm_shape *s, const void *x, const void *y, void *dy,
                          const float *gamma, const float *saved, void *dadd, bool accumulate, float *dgamma,
                          float *dbeta)
{
    size_t count = s->rows * s->c;
    int minimum = 3 + (dadd ? 1 + accumulate + (s->relu && !s->relu_mask) : 0);
    PASSES("norm_backward", count * backward_passes(s, dadd, accumulate), count * minimum, bits_of(s) / 4,
           device_ops->norm_backward(device, s, x, y, dy, gamma, saved, dadd, accumulate, dgamma, dbeta),
           "%zu rows of %d%s%s%s", s->rows, s->c, dadd ? ", add" : "", s->relu ? ", relu" : "",
           s->code_scale != 0 ? ", of a code" : "");
}

static void norm_backward_of_sum(struct device *device, const struct norm_shape *s, const void *x, const void *y,
                                 void *dy, const void *more, const float *gamma, const float *saved, void *dadd,
                                 bool accumulate, float *dgamma, float *dbeta)
{
    size_t count = s->rows * s->c;
    int moved = backward_passes(s, true, accumulate) + (s->relu && !accumulate ? 1 : 3);
    PASSES("norm_backward", count * moved, count * (5 + accumulate + (s->relu && !s->relu_mask)), bits_of(s) / 4,
           device_ops->norm_backward_of_sum(device, s, x, y, dy, more, gamma, saved, dadd, accumulate, dgamma, dbeta),
           "%zu rows of %d, add, of two%s%s", s->rows, s->c, s->relu ? ", relu" : "",
           s->code_scale != 0 ? ", of a code" : "");
}

static size_t pooled(const struct pool_shape *s)
{
    size_t h = (s->h + 2 * s->pad - s->k) / s->stride + 1, w = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    return s->n * h * w * s->c;
}

/* Besides the activations there is one byte, a quarter of a float, per window. */
static void norm_max_forward(struct device *device, const struct norm_shape *s, const struct pool_shape *p,
                             const void *x, const float *gamma, const float *beta, void *y, float *saved,
                             float *moments, uint8_t *argmax_in_window, void *argmax_value)
{
    size_t count = s->rows * s->c, out = pooled(p);
    PASSES(
        "norm_max_forward", 2 * count + 2 * out, count + 2 * out, out / 4,
        device_ops->norm_max_forward(device, s, p, x, gamma, beta, y, saved, moments, argmax_in_window, argmax_value),
        "%dx%dx%dx%d, %dx%d/%d%s", p->n, p->h, p->w, p->c, p->k, p->k, p->stride, s->relu ? ", relu" : "");
}

static void norm_max_backward(struct device *device, const struct norm_shape *s, const struct pool_shape *p,
                              const void *x, const uint8_t *argmax_in_window, const void *argmax_value, const void *dy,
                              void *dx, const float *gamma, const float *saved, float *dgamma, float *dbeta)
{
    size_t count = s->rows * s->c, out = pooled(p);
    PASSES("norm_max_backward", 2 * count + 3 * out, 2 * count + out, out / 2,
           device_ops->norm_max_backward(device, s, p, x, argmax_in_window, argmax_value, dy, dx, gamma, saved, dgamma,
                                         dbeta),
           "%dx%dx%dx%d, %dx%d/%d%s%s", p->n, p->h, p->w, p->c, p->k, p->k, p->stride, s->relu ? ", relu" : "",
           s->code_scale != 0 ? ", of a code" : "");
}

static void max_forward(struct device *device, const struct pool_shape *s, const void *x, void *y, int32_t *argmax)
{
    PASS(max_forward, (device, s, x, y, argmax), (size_t)s->n * s->h * s->w * s->c + pooled(s), pooled(s),
         "%dx%dx%dx%d", s->n, s->h, s->w, s->c);
}

static void max_backward(struct device *device, const struct pool_shape *s, const void *dy, const int32_t *argmax,
                         void *dx, bool accumulate)
{
    PASS(max_backward, (device, s, dy, argmax, dx, accumulate),
         (size_t)s->n * s->h * s->w * s->c * (1 + accumulate) + pooled(s), pooled(s), "%dx%dx%dx%d", s->n, s->h, s->w,
         s->c);
}

static void mean_forward(struct device *device, int n, int hw, int c, const void *x, float *y)
{
    PASS(mean_forward, (device, n, hw, c, x, y), (size_t)n * hw * c, (size_t)n * c, "%dx%dx%d", n, hw, c);
}

static void mean_backward(struct device *device, int n, int hw, int c, const float *dy, void *dx)
{
    PASS(mean_backward, (device, n, hw, c, dy, dx), (size_t)n * hw * c, (size_t)n * c, "%dx%dx%d", n, hw, c);
}

static void linear_forward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y)
{
    PASS(linear_forward, (device, n, c, k, x, w, b, y), 0, (size_t)n * c + (size_t)c * k, "%dx%dx%d", n, c, k);
}

static void linear_backward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *dy,
                            float *dx, float *dw, float *db)
{
    PASS(linear_backward, (device, n, c, k, x, w, dy, dx, dw, db), 0, 2 * (size_t)n * c + 2 * (size_t)c * k, "%dx%dx%d",
         n, c, k);
}

static void cross_entropy(struct device *device, int n, int k, const float *logits, const int32_t *labels,
                          float smoothing, float scale, float *losses, float *mean, float *dlogits)
{
    PASS(cross_entropy, (device, n, k, logits, labels, smoothing, scale, losses, mean, dlogits), 0, 2 * (size_t)n * k,
         "%dx%d", n, k);
}

static void sgd(struct device *device, const struct sgd *s, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count)
{
    size_t floats = 0;
    struct sgd_row row;
    for (int r = 0; r < count; r++) {
        device_ops->copy_out(device, &row, rows + r, sizeof row);
        floats += (size_t)row.length;
    }
    PASS(sgd, (device, s, w, g, v, rows, count), 0, 5 * floats, "%d rows, %zu", count, floats);
}

static void normalize_rows(struct device *device, float *w, int rows, size_t length)
{
    PASS(normalize_rows, (device, w, rows, length), 0, 2 * rows * length, "%d rows of %zu", rows, length);
}

/* The operations above. */
/* clang-format off */
#define TRACED(X) \
    X(conv_load) X(conv_forward) X(conv_adjoint) X(conv_gradient) \
    X(upload) X(upload_pixels) X(zero) \
    X(mask) X(mask_device_scale) X(axpby_act) X(axpby_f32) X(dot_act) X(dot_f32) X(power_normalize) \
    X(norm_forward) X(norm_backward) X(norm_backward_of_sum) X(norm_max_forward) X(norm_max_backward) \
    X(max_forward) X(max_backward) X(mean_forward) X(mean_backward) X(linear_forward) X(linear_backward) \
    X(cross_entropy) X(sgd) X(normalize_rows)
/* clang-format on */
#define REPLACE(operation) table.operation = device_ops->operation ? operation : NULL;

void trace_start(struct device *device)
{
    device_ops = device->ops;
    element = precision_bytes(device->precision);
    table = *device_ops;
    TRACED(REPLACE)
    table.graph_capture_begin = NULL; /* a launched graph calls no operations */
    table.streams_begin = NULL;       /* operations run one after another */
    device->ops = &table;
    lines_count = 0;
}

void trace_stop(struct device *device)
{
    device->ops = device_ops;
}

static int by_time(const void *a, const void *b)
{
    double first = ((const struct trace_line *)a)->seconds, second = ((const struct trace_line *)b)->seconds;
    return (second > first) - (second < first);
}

const struct trace_line *trace_lines(int *count)
{
    qsort(lines, lines_count, sizeof *lines, by_time);
    *count = lines_count;
    return lines;
}

/* ---- peaks ---- */

/* Sizes double until the device needs PEAK_SECONDS, up to the maximum. */
enum {
    PEAK_RUNS = 5,
    MIN_CHANNELS = 512,
    MAX_CHANNELS = 4096,
    MIN_COPY = 1 << 23,
    MAX_COPY = 1 << 27 /* floats */
};
#define PEAK_SECONDS 5e-4

static enum status time_product(struct device *device, int channels, double *seconds, double *flops)
{
    enum status status = STATUS_OK;
    const struct conv_shape s = {
        .n = channels / 32, .h = 16, .w = 16, .c = channels, .d = channels, .k = 1, .stride = 1
    };
    const struct epilogue plain = { .alpha = 1 };
    struct conv *conv = NULL;
    struct arena arena = { 0 };
    void *in = NULL, *out = NULL, *weights = NULL, *scratch = NULL;
    double best_s = INFINITY;
    TRY(device->ops->conv_create(device, &s, device->precision, CONV_FORWARD, &conv));
    for (int pass = 0; pass < 2; pass++) {
        device->ops->conv_assign_memory(conv, &arena);
        in = arena_take(&arena, conv_in_count(&s) * sizeof(float));
        out = arena_take(&arena, conv_out_count(&s) * sizeof(float));
        weights = arena_take(&arena, conv_weight_count(&s) * sizeof(float));
        scratch = arena_take(&arena, conv->scratch);
        if (pass == 0)
            TRY(device->ops->arena_allocate(device, &arena));
    }
    TRY(device->ops->conv_load(conv, weights, scratch));
    for (int i = 0; i <= PEAK_RUNS; i++) {
        double began = clock_seconds();
        TRY(device->ops->conv_forward(conv, in, out, &plain, scratch));
        if (device->ops->synchronize)
            device->ops->synchronize(device);
        best_s = fmin(best_s, clock_seconds() - began);
    }
    *seconds = best_s;
    *flops = conv_flops(&s) / best_s;
fail:
    if (conv)
        device->ops->conv_destroy(conv);
    device->ops->arena_finish(device, &arena);
    return status;
}

static enum status time_copy(struct device *device, size_t count, double *seconds, double *bytes)
{
    enum status status = STATUS_OK;
    struct arena arena = { 0 };
    double best_s = INFINITY;
    arena_take(&arena, 2 * count * sizeof(float));
    TRY(device->ops->arena_allocate(device, &arena));
    float *from = arena_take(&arena, 2 * count * sizeof(float));
    for (int i = 0; i <= PEAK_RUNS; i++) {
        double began = clock_seconds();
        device->ops->axpby_f32(device, 1, from, 0, from, from + count, count);
        if (device->ops->synchronize)
            device->ops->synchronize(device);
        best_s = fmin(best_s, clock_seconds() - began);
    }
    *seconds = best_s;
    *bytes = 2.0 * (double)count * sizeof(float) / best_s;
fail:
    device->ops->arena_finish(device, &arena);
    return status;
}

enum status trace_measure_peaks(struct device *device, struct trace_peaks *peaks)
{
    enum status status = STATUS_OK;
    double seconds = 0;
    for (int channels = MIN_CHANNELS; channels <= MAX_CHANNELS && seconds < PEAK_SECONDS; channels *= 2)
        TRY(time_product(device, channels, &seconds, &peaks->flops));
    seconds = 0;
    for (size_t count = MIN_COPY; count <= MAX_COPY && seconds < PEAK_SECONDS; count *= 2)
        TRY(time_copy(device, count, &seconds, &peaks->bytes));
fail:
    return status;
}

/* ---- reports ---- */

/* The share of the matrix product's peak for operations with flops, otherwise of the copy's. */
static double of_peak(const struct trace_line *l, const struct trace_peaks *peaks)
{
    return l->flops > 0 ? l->flops / l->seconds / peaks->flops : l->moved / l->seconds / peaks->bytes;
}

void trace_print_head(void)
{
    printf("%-18s %-48s %6s %9s %7s %8s %9s %9s %7s %8s\n", "operation", "shape", "calls", "ms", "share", "GFLOP/s",
           "MB", "least MB", "GB/s", "of peak");
}

void trace_print(const struct trace_line *l, int per, double total, const struct trace_peaks *peaks)
{
    printf("%-18s %-48s %6.1f %9.3f %6.2f%% %8.1f %9.2f %9.2f %7.2f %7.1f%%\n", l->name, l->shape,
           (double)l->calls / per, 1e3 * l->seconds / per, 100 * l->seconds / total, 1e-9 * l->flops / l->seconds,
           1e-6 * l->moved / per, 1e-6 * l->minimum / per, 1e-9 * l->moved / l->seconds, 100 * of_peak(l, peaks));
}

json_t *trace_json(const struct trace_line *l, int per, double total, const struct trace_peaks *peaks)
{
    return json_pack("{s:s,s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "operation", l->name, "shape", l->shape, "calls",
                     (double)l->calls / per, "ms", 1e3 * l->seconds / per, "share", l->seconds / total, "gflop_s",
                     1e-9 * l->flops / l->seconds, "mb", 1e-6 * l->moved / per, "least_mb", 1e-6 * l->minimum / per,
                     "gb_s", 1e-9 * l->moved / l->seconds, "of_peak", of_peak(l, peaks));
}
