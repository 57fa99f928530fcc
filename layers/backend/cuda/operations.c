/* operations.c - the slots of the table that kernels of our own serve. */
#include "layers/backend/cuda/device.h"

static struct cuda_device *of(struct device *device)
{
    return (struct cuda_device *)device;
}

const struct queue *cuda_queue(struct device *device)
{
    of(device)->statistics_of = NULL;
    return &of(device)->queue;
}

struct queue cuda_conv_queue(const struct conv *conv)
{
    struct queue q = *cuda_queue(conv->device);
    q.type = conv->precision == PRECISION_BF16 ? BF16 : F32;
    return q;
}

void cuda_epilogue(const struct conv *conv, const struct epilogue *e, enum element type, const void *result, void *out,
                   size_t rows, int c)
{
    struct queue q = cuda_conv_queue(conv);
    bool code = e->kind == EPILOGUE_SHRINK;
    int parts = kernel_epilogue(&q, e, type, result, out, rows, c, NULL, code);
    if (code) {
        of(conv->device)->statistics_of = out;
        of(conv->device)->statistics_parts = parts;
    }
}

static void upload(struct device *device, void *to, const float *from, size_t count)
{
    const struct queue *q = cuda_queue(device);
    size_t bytes = count * sizeof *from;
    const void *prefetched = cuda_prefetched(of(device), from, bytes);
    if (prefetched) {
        kernel_to_activation(q, prefetched, to, count);
        cuda_prefetched_done(of(device));
        return;
    }
    if (q->type == F32) {
        device->ops->copy_in(device, to, from, bytes);
        return;
    }
    void *floats = cuda_staging_buffer(of(device), bytes);
    if (!floats)
        return;
    device->ops->copy_in(device, floats, from, bytes);
    kernel_to_activation(q, floats, to, count);
}

static void upload_pixels(struct device *device, void *to, const void *raw, size_t bytes, int count, int size,
                          const struct pixel_scale *scale)
{
    const struct queue *q = cuda_queue(device);
    const void *prefetched = cuda_prefetched(of(device), raw, bytes), *device_raw = prefetched;
    if (!prefetched) {
        void *memory = cuda_staging_buffer(of(device), bytes);
        if (!memory)
            return;
        device->ops->copy_in(device, memory, raw, bytes);
        device_raw = memory;
    }
    kernel_prepare_images(q, device_raw, count, size, scale, to);
    if (prefetched)
        cuda_prefetched_done(of(device));
}

static void download(struct device *device, float *to, const void *from, size_t count)
{
    const struct queue *q = cuda_queue(device);
    size_t bytes = count * sizeof *to;
    if (q->type == F32) {
        device->ops->copy_out(device, to, from, bytes);
        return;
    }
    void *floats = cuda_staging_buffer(of(device), bytes);
    if (!floats)
        return;
    kernel_from_activation(q, from, floats, count);
    device->ops->copy_out(device, to, floats, bytes);
}

static void mask(struct device *device, const void *in, const void *by, float nu, void *out, size_t count)
{
    kernel_mask(cuda_queue(device), in, by, NULL, nu, NULL, out, count);
}

static void mask_device_scale(struct device *device, const void *in, const void *by, const float *nu, void *out,
                              size_t count)
{
    kernel_mask(cuda_queue(device), in, by, NULL, 1, nu, out, count);
}

static void axpby_act(struct device *device, float a, const void *x, float b, const void *y, void *out, size_t count)
{
    kernel_axpby_act(cuda_queue(device), a, x, b, y, out, count);
}

static void axpby_f32(struct device *device, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    kernel_axpby_f32(cuda_queue(device), a, x, b, y, out, count);
}

static double sum_of(struct device *device, enum element type, const void *x, const void *y, size_t count)
{
    double sum = 0;
    kernel_dot(cuda_queue(device), type, x, y, count, of(device)->result);
    device->ops->copy_out(device, &sum, of(device)->result, sizeof sum);
    return sum;
}

static double dot_act(struct device *device, const void *x, const void *y, size_t count)
{
    return sum_of(device, of(device)->queue.type, x, y, count);
}

static double dot_f32(struct device *device, const float *x, const float *y, size_t count)
{
    return sum_of(device, F32, x, y, count);
}

static void power_normalize(struct device *device, const float *code, size_t codes, const float *from,
                            const float *image, size_t pixels, float *v, double *quotient)
{
    kernel_power(cuda_queue(device), code, codes, from, image, pixels, v, quotient);
}

static void step_scalars(struct device *device, const double *lambda_max, int count, float lambda, float mu,
                         float *scalars)
{
    kernel_step_scalars(cuda_queue(device), lambda_max, count, lambda, mu, scalars);
}

static void norm_forward(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, const void *add, void *y, float *saved, float *moments)
{
    int parts = of(device)->statistics_of == x ? of(device)->statistics_parts : 0;
    kernel_norm_forward(cuda_queue(device), shape, x, gamma, beta, add, y, saved, moments, parts);
}

static void norm_inference(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y)
{
    kernel_norm_inference(cuda_queue(device), shape, x, gamma, beta, running, add, y);
}

static void norm_backward(struct device *device, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                          const float *gamma, const float *saved, void *dadd, bool accumulate, float *dgamma,
                          float *dbeta)
{
    kernel_norm_backward(cuda_queue(device), shape, x, y, dy, NULL, gamma, saved, dadd, accumulate, dgamma, dbeta);
}

static void norm_backward_of_sum(struct device *device, const struct norm_shape *shape, const void *x, const void *y,
                                 void *dy, const void *addend, const float *gamma, const float *saved, void *dadd,
                                 bool accumulate, float *dgamma, float *dbeta)
{
    kernel_norm_backward(cuda_queue(device), shape, x, y, dy, addend, gamma, saved, dadd, accumulate, dgamma, dbeta);
}

static void norm_max_forward(struct device *device, const struct norm_shape *norm, const struct pool_shape *pool,
                             const void *x, const float *gamma, const float *beta, void *y, float *saved,
                             float *moments, uint8_t *argmax_in_window, void *argmax_value)
{
    int parts = of(device)->statistics_of == x ? of(device)->statistics_parts : 0;
    kernel_norm_max_forward(cuda_queue(device), norm, pool, x, gamma, beta, y, saved, moments, argmax_in_window,
                            argmax_value, parts);
}

static void norm_max_backward(struct device *device, const struct norm_shape *norm, const struct pool_shape *pool,
                              const void *x, const uint8_t *argmax_in_window, const void *argmax_value, const void *dy,
                              void *dx, const float *gamma, const float *saved, float *dgamma, float *dbeta)
{
    kernel_norm_max_backward(cuda_queue(device), norm, pool, x, argmax_in_window, argmax_value, dy, dx, gamma, saved,
                             dgamma, dbeta);
}

static void max_forward(struct device *device, const struct pool_shape *shape, const void *x, void *y, int32_t *argmax)
{
    kernel_max_forward(cuda_queue(device), shape, x, y, argmax);
}

static void max_backward(struct device *device, const struct pool_shape *shape, const void *dy, const int32_t *argmax,
                         void *dx, bool accumulate)
{
    kernel_max_backward(cuda_queue(device), shape, dy, argmax, dx, accumulate);
}

static void mean_forward(struct device *device, int n, int hw, int c, const void *x, float *y)
{
    kernel_mean_forward(cuda_queue(device), n, hw, c, x, y);
}

static void mean_backward(struct device *device, int n, int hw, int c, const float *dy, void *dx)
{
    kernel_mean_backward(cuda_queue(device), n, hw, c, dy, dx);
}

static void cross_entropy(struct device *device, int n, int k, const float *logits, const int32_t *labels,
                          float smoothing, float scale, float *losses, float *mean, float *dlogits)
{
    kernel_cross_entropy(cuda_queue(device), n, k, logits, labels, smoothing, scale, losses, mean, dlogits);
}

static void sgd(struct device *device, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count)
{
    kernel_sgd(cuda_queue(device), sgd, w, g, v, rows, count);
}

static void normalize_rows(struct device *device, float *w, int rows, size_t length)
{
    kernel_normalize_rows(cuda_queue(device), w, rows, length);
}

void cuda_fill_table(struct backend *table)
{
    table->supports_relu_mask = true;
    table->upload = upload;
    table->upload_pixels = upload_pixels;
    table->download = download;
    table->mask = mask;
    table->mask_device_scale = mask_device_scale;
    table->axpby_act = axpby_act;
    table->dot_act = dot_act;
    table->axpby_f32 = axpby_f32;
    table->dot_f32 = dot_f32;
    table->power_normalize = power_normalize;
    table->step_scalars = step_scalars;
    table->norm_forward = norm_forward;
    table->norm_inference = norm_inference;
    table->norm_backward = norm_backward;
    table->norm_backward_of_sum = norm_backward_of_sum;
    table->norm_max_forward = norm_max_forward;
    table->norm_max_backward = norm_max_backward;
    table->max_forward = max_forward;
    table->max_backward = max_backward;
    table->mean_forward = mean_forward;
    table->mean_backward = mean_backward;
    table->cross_entropy = cross_entropy;
    table->sgd = sgd;
    table->normalize_rows = normalize_rows;
}
