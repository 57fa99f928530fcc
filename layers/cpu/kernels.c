/* kernels.c - the CPU backend's passes over memory, each reading and writing every float once.
 * Compiled once per instruction set (KERNELS names the table); loops are written for the compiler's
 * vectoriser. Sums are taken over rows in blocks in float, between blocks and threads in double, in an
 * order that depends on the number of threads only. */
#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "layers/cpu/cpu.h"
#include "layers/ref/ref.h"

#define MAX_THREADS 1024

static int thread_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static int thread_count(void)
{
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

/* This thread's part [*from, *to) of 0..count, in multiples of `grain`. */
static void share(size_t count, size_t grain, size_t *from, size_t *to)
{
    size_t grains = (count + grain - 1) / grain, threads = thread_count(), self = thread_number();
    *from = grains * self / threads * grain;
    *to = grains * (self + 1) / threads * grain;
    if (*from > count)
        *from = count;
    if (*to > count)
        *to = count;
}

#define FLOATS_PER_LINE 16

/* ---- elementwise ---- */

static void linear_range(const struct epilogue *e, const float *conv, float *out, size_t from, size_t to)
{
    const float *add = e->add;
    float alpha = e->alpha, beta = e->beta;
    if (!add)
        for (size_t i = from; i < to; i++)
            out[i] = alpha * conv[i];
    else
        for (size_t i = from; i < to; i++)
            out[i] = alpha * conv[i] + beta * add[i];
}

static void shrink_range(const struct epilogue *e, const float *conv, float *out, size_t from, size_t to)
{
    const float *add = e->add;
    float alpha = e->alpha * e->nu, beta = e->beta * e->nu, threshold = e->threshold;
    if (e->nonnegative && !add)
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] - threshold;
            out[i] = v < 0 ? 0 : v; /* NaN passes */
        }
    else if (e->nonnegative)
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] + beta * add[i] - threshold;
            out[i] = v < 0 ? 0 : v; /* NaN passes */
        }
    else
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] + (add ? beta * add[i] : 0);
            float shrunk = fabsf(v) - threshold;
            out[i] = shrunk <= 0 ? 0 : copysignf(shrunk, v);
        }
}

static void mask_range(const struct epilogue *e, const float *conv, float *out, size_t from, size_t to)
{
    const float *add = e->add, *mask = e->mask;
    float alpha = e->alpha * e->nu, beta = e->beta * e->nu;
    if (!add)
        for (size_t i = from; i < to; i++)
            out[i] = mask[i] != 0 ? alpha * conv[i] : 0;
    else
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] + beta * add[i];
            out[i] = mask[i] != 0 ? v : 0;
        }
}

static void epilogue(const struct epilogue *e, const float *conv, float *out, size_t count)
{
#pragma omp parallel
    {
        size_t from, to;
        share(count, FLOATS_PER_LINE, &from, &to);
        if (e->kind == EPILOGUE_SHRINK)
            shrink_range(e, conv, out, from, to);
        else if (e->kind == EPILOGUE_MASK)
            mask_range(e, conv, out, from, to);
        else
            linear_range(e, conv, out, from, to);
    }
}

static void add_scaled(float *to, float alpha, const float *from, size_t count)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        to[i] += alpha * from[i];
}

static void mask(struct device *device, const float *in, const float *by, float nu, float *out, size_t count)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        out[i] = by[i] != 0 ? nu * in[i] : 0;
}

static void lincomb(struct device *device, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        out[i] = a * x[i] + b * y[i];
}

static double dot_range(const float *x, const float *y, size_t count)
{
    double sums[16] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (int j = 0; j < 16; j++)
            sums[j] += (double)x[i + j] * y[i + j];
    for (; i < count; i++)
        sums[i % 16] += (double)x[i] * y[i];
    for (int j = 0; j < 16; j++)
        sum += sums[j];
    return sum;
}

static double dot(struct device *device, const float *x, const float *y, size_t count)
{
    (void)device;
    double parts[MAX_THREADS] = { 0 }, sum = 0;
    int used = 1;
#pragma omp parallel
    {
        size_t from, to;
        share(count, FLOATS_PER_LINE, &from, &to);
        parts[thread_number()] = dot_range(x + from, y + from, to - from);
        if (thread_number() == 0)
            used = thread_count();
    }
    for (int t = 0; t < used; t++)
        sum += parts[t];
    return sum;
}

static void sgd(struct device *device, const struct sgd *sgd, float *w, const float *g, float *v, size_t count)
{
    (void)device;
    float lr = sgd->lr, momentum = sgd->first ? 0 : sgd->momentum, decay = sgd->weight_decay;
    float from_step = sgd->nesterov ? 1 : 0, from_v = sgd->nesterov ? sgd->momentum : 1;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++) {
        float step = g[i] + decay * w[i];
        v[i] = momentum * v[i] + step;
        w[i] -= lr * (from_step * step + from_v * v[i]);
    }
}

static void normalize_rows(struct device *device, float *w, int rows, size_t length)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
        float *row = w + r * length;
        double norm = sqrt(dot_range(row, row, length));
        float scale = (float)(1 / (norm > 1e-12 ? norm : 1e-12));
        for (size_t i = 0; i < length; i++)
            row[i] *= scale;
    }
}

/* ---- batch norm: x (rows, C) ---- */

#define TILE 32  /* channels whose sums stay in registers */
#define BLOCK 64 /* rows summed in float before they go to double */

/* Adds to sums[c], products[c] the sums of (x - origin) and its square over rows [from, to). */
static void moment_tile(const float *x, const float *origin, size_t from, size_t to, int channels, int width,
                        double *sums, double *squares)
{
    for (size_t block = from; block < to; block += BLOCK) {
        size_t end = block + BLOCK < to ? block + BLOCK : to;
        float s[TILE] = { 0 }, q[TILE] = { 0 };
        if (width == TILE)
            for (size_t r = block; r < end; r++)
                for (int c = 0; c < TILE; c++) {
                    float v = x[r * channels + c] - origin[c];
                    s[c] += v;
                    q[c] += v * v;
                }
        else
            for (size_t r = block; r < end; r++)
                for (int c = 0; c < width; c++) {
                    float v = x[r * channels + c] - origin[c];
                    s[c] += v;
                    q[c] += v * v;
                }
        for (int c = 0; c < width; c++) {
            sums[c] += s[c];
            squares[c] += q[c];
        }
    }
}

/* partials (threads, CPU_PARTIALS, C) -> partials[0..2C): the first two summed over threads. */
static void combine(double *partials, int channels, int used)
{
    for (int t = 1; t < used; t++)
        for (int c = 0; c < 2 * channels; c++)
            partials[c] += partials[(size_t)t * CPU_PARTIALS * channels + c];
}

/* y = (x - center) scale + shift: not x scale + shift, which cancels where the mean is far from 0. */
static void affine_rows(const struct norm_shape *shape, const float *x, const float *center, const float *scale,
                        const float *shift, const float *add, float *y, size_t from, size_t to)
{
    int channels = shape->c;
    float floor = shape->relu ? 0 : -INFINITY;
    for (size_t r = from; r < to; r++) {
        const float *in = x + r * channels;
        float *out = y + r * channels;
        if (add) {
            const float *other = add + r * channels;
            for (int c = 0; c < channels; c++) {
                float v = (in[c] - center[c]) * scale[c] + shift[c] + other[c];
                out[c] = v < floor ? floor : v;
            }
        } else
            for (int c = 0; c < channels; c++) {
                float v = (in[c] - center[c]) * scale[c] + shift[c];
                out[c] = v < floor ? floor : v;
            }
    }
}

static void norm_forward(struct device *device, const struct norm_shape *shape, const float *x, const float *gamma,
                         const float *beta, const float *add, float *y, float *saved, float *moments)
{
    int channels = shape->c, used = 1;
    double *partials = cpu_partials(device, channels), rows = (double)shape->rows;
    float *scale = (float *)(partials + 2 * channels), *shift = scale + channels;
#pragma omp parallel num_threads(device->threads)
    {
        size_t from, to;
        double *sums = partials + (size_t)thread_number() * CPU_PARTIALS * channels;
        memset(sums, 0, 2 * channels * sizeof *sums);
        share(shape->rows, 1, &from, &to);
        for (int c = 0; c < channels; c += TILE)
            moment_tile(x + c, x + c, from, to, channels, channels - c < TILE ? channels - c : TILE, sums + c,
                        sums + channels + c);
        if (thread_number() == 0)
            used = thread_count();
#pragma omp barrier
#pragma omp single
        {
            combine(partials, channels, used);
            for (int c = 0; c < channels; c++) {
                double offset = partials[c] / rows, mean = x[c] + offset;
                double sum = partials[channels + c] - rows * offset * offset; /* of squared deviations */
                double variance = sum > 0 ? sum / rows : 0, inverse = 1 / sqrt(variance + NORM_EPSILON);
                saved[c] = (float)mean;
                saved[channels + c] = (float)inverse;
                moments[c] += (float)mean;
                moments[channels + c] += (float)(variance * rows / (rows > 1 ? rows - 1 : 1));
                scale[c] = (float)(gamma[c] * inverse);
                shift[c] = (float)(beta[c] - (mean - saved[c]) * inverse * gamma[c]);
            }
        }
        affine_rows(shape, x, saved, scale, shift, add, y, from, to);
    }
}

static void norm_inference(struct device *device, const struct norm_shape *shape, const float *x, const float *gamma,
                           const float *beta, const float *running, const float *add, float *y)
{
    int channels = shape->c;
    float *scale = (float *)cpu_partials(device, channels);
    for (int c = 0; c < channels; c++)
        scale[c] = (float)(gamma[c] / sqrt((double)running[channels + c] + NORM_EPSILON));
#pragma omp parallel num_threads(device->threads)
    {
        size_t from, to;
        share(shape->rows, 1, &from, &to);
        affine_rows(shape, x, running, scale, beta, add, y, from, to);
    }
}

/* Sums of g and of g (x - mean) over rows, g = dy where y > 0 if there is a ReLU. */
static void backward_tile(bool relu, const float *x, const float *y, const float *dy, const float *mean, size_t from,
                          size_t to, int channels, int width, double *sums, double *products)
{
    for (size_t block = from; block < to; block += BLOCK) {
        size_t end = block + BLOCK < to ? block + BLOCK : to;
        float s[TILE] = { 0 }, p[TILE] = { 0 };
        if (width == TILE && relu)
            for (size_t r = block; r < end; r++)
                for (int c = 0; c < TILE; c++) {
                    size_t i = r * channels + c;
                    float g = y[i] > 0 ? dy[i] : 0;
                    s[c] += g;
                    p[c] += g * (x[i] - mean[c]);
                }
        else if (width == TILE)
            for (size_t r = block; r < end; r++)
                for (int c = 0; c < TILE; c++) {
                    size_t i = r * channels + c;
                    s[c] += dy[i];
                    p[c] += dy[i] * (x[i] - mean[c]);
                }
        else
            for (size_t r = block; r < end; r++)
                for (int c = 0; c < width; c++) {
                    size_t i = r * channels + c;
                    float g = relu && y[i] <= 0 ? 0 : dy[i];
                    s[c] += g;
                    p[c] += g * (x[i] - mean[c]);
                }
        for (int c = 0; c < width; c++) {
            sums[c] += s[c];
            products[c] += p[c];
        }
    }
}

/* dy = a (g + b (x - mean) + k) per channel; dadd gets g. */
static void backward_rows(const struct norm_shape *shape, const float *x, const float *y, float *dy, const float *mean,
                          const float *abk, float *dadd, bool accumulate, size_t from, size_t to)
{
    int channels = shape->c;
    const float *a = abk, *b = abk + channels, *k = abk + 2 * channels;
    for (size_t r = from; r < to; r++) {
        size_t at = r * channels;
        if (shape->relu)
            for (int c = 0; c < channels; c++)
                dy[at + c] = y[at + c] > 0 ? dy[at + c] : 0;
        if (dadd && accumulate)
            for (int c = 0; c < channels; c++)
                dadd[at + c] += dy[at + c];
        else if (dadd)
            memcpy(dadd + at, dy + at, channels * sizeof *dadd);
        for (int c = 0; c < channels; c++)
            dy[at + c] = a[c] * (dy[at + c] + b[c] * (x[at + c] - mean[c]) + k[c]);
    }
}

static void norm_backward(struct device *device, const struct norm_shape *shape, const float *x, const float *y,
                          float *dy, const float *gamma, const float *saved, float *dadd, bool accumulate,
                          float *dgamma, float *dbeta)
{
    int channels = shape->c, used = 1;
    double *partials = cpu_partials(device, channels), rows = (double)shape->rows;
    float *abk = (float *)(partials + 2 * channels); /* 3C floats in 2C doubles */
#pragma omp parallel num_threads(device->threads)
    {
        size_t from, to;
        double *sums = partials + (size_t)thread_number() * CPU_PARTIALS * channels;
        memset(sums, 0, 2 * channels * sizeof *sums);
        share(shape->rows, 1, &from, &to);
        for (int c = 0; c < channels; c += TILE)
            backward_tile(shape->relu, x + c, y + c, dy + c, saved + c, from, to, channels,
                          channels - c < TILE ? channels - c : TILE, sums + c, sums + channels + c);
        if (thread_number() == 0)
            used = thread_count();
#pragma omp barrier
#pragma omp single
        {
            combine(partials, channels, used);
            for (int c = 0; c < channels; c++) {
                double inverse = saved[channels + c];
                double sum = partials[c], product = partials[channels + c] * inverse;
                abk[c] = (float)(gamma[c] * inverse);
                abk[channels + c] = (float)(-inverse * product / rows);
                abk[2 * channels + c] = (float)(-sum / rows);
                dgamma[c] += (float)product;
                dbeta[c] += (float)sum;
            }
        }
        backward_rows(shape, x, y, dy, saved, abk, dadd, accumulate, from, to);
    }
}

/* ---- pooling, linear ---- */

/* Padding is below k, so that every window holds a pixel. */
static void max_pixel(const struct pool_shape *s, const float *image, int i, int j, float *restrict y,
                      int32_t *restrict winner)
{
    int top = i * s->stride - s->pad, left = j * s->stride - s->pad, channels = s->c;
    int from_a = top < 0 ? 0 : top, from_b = left < 0 ? 0 : left;
    int to_a = top + s->k < s->h ? top + s->k : s->h, to_b = left + s->k < s->w ? left + s->k : s->w;
    int32_t at = from_a * s->w + from_b;
    memcpy(y, image + (size_t)at * channels, channels * sizeof *y);
    for (int c = 0; c < channels; c++)
        winner[c] = at;
    for (int a = from_a; a < to_a; a++)
        for (int b = from_b; b < to_b; b++) {
            at = a * s->w + b;
            const float *restrict x = image + (size_t)at * channels;
            for (int c = 0; c < channels; c++) {
                float v = x[c], best = y[c];
                int32_t before = winner[c];
                bool better = v > best;
                y[c] = better ? v : best;
                winner[c] = better ? at : before;
            }
        }
}

static void max_forward(struct device *device, const struct pool_shape *s, const float *x, float *y, int32_t *winner)
{
    (void)device;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
#pragma omp parallel for schedule(static)
    for (int row = 0; row < s->n * oh; row++)
        for (int j = 0; j < ow; j++) {
            size_t at = ((size_t)row * ow + j) * s->c;
            max_pixel(s, x + (size_t)(row / oh) * s->h * s->w * s->c, row % oh, j, y + at, winner + at);
        }
}

static void max_backward(struct device *device, const struct pool_shape *s, const float *dy, const int32_t *winner,
                         float *dx, bool accumulate)
{
    (void)device;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    size_t image = (size_t)s->h * s->w * s->c, outputs = (size_t)oh * ow * s->c;
#pragma omp parallel for schedule(static)
    for (int n = 0; n < s->n; n++) {
        float *to = dx + n * image;
        if (!accumulate)
            memset(to, 0, image * sizeof *to);
        for (size_t pixel = n * outputs; pixel < (n + 1) * outputs; pixel += s->c)
            for (int c = 0; c < s->c; c++)
                to[(size_t)winner[pixel + c] * s->c + c] += dy[pixel + c];
    }
}

static void mean_forward(struct device *device, int n, int hw, int c, const float *x, float *y)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        float *out = y + (size_t)i * c;
        memset(out, 0, c * sizeof *out);
        for (int p = 0; p < hw; p++)
            for (int j = 0; j < c; j++)
                out[j] += x[((size_t)i * hw + p) * c + j];
        for (int j = 0; j < c; j++)
            out[j] /= (float)hw;
    }
}

static void mean_backward(struct device *device, int n, int hw, int c, const float *dy, float *dx)
{
    (void)device;
    float scale = 1 / (float)hw;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        for (int p = 0; p < hw; p++)
            for (int j = 0; j < c; j++)
                dx[((size_t)i * hw + p) * c + j] = scale * dy[(size_t)i * c + j];
}

static void linear_forward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n * k; i++)
        y[i] = (float)(b[i % k] + dot_range(x + (size_t)(i / k) * c, w + (size_t)(i % k) * c, c));
}

static void linear_backward(struct device *device, int n, int c, int k, const float *x, const float *w,
                            const float *dy, float *dx, float *dw, float *db)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int o = 0; o < k; o++)
        for (int i = 0; i < n; i++) {
            float g = dy[(size_t)i * k + o];
            db[o] += g;
            for (int j = 0; j < c; j++)
                dw[(size_t)o * c + j] += g * x[(size_t)i * c + j];
        }
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        float *out = dx + (size_t)i * c;
        memset(out, 0, c * sizeof *out);
        for (int o = 0; o < k; o++)
            for (int j = 0; j < c; j++)
                out[j] += dy[(size_t)i * k + o] * w[(size_t)o * c + j];
    }
}

static void fill_table(struct backend *table)
{
    table->mask = mask;
    table->lincomb = lincomb;
    table->dot = dot;
    table->norm_forward = norm_forward;
    table->norm_inference = norm_inference;
    table->norm_backward = norm_backward;
    table->max_forward = max_forward;
    table->max_backward = max_backward;
    table->mean_forward = mean_forward;
    table->mean_backward = mean_backward;
    table->linear_forward = linear_forward;
    table->linear_backward = linear_backward;
    table->sgd = sgd;
    table->normalize_rows = normalize_rows;
}

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .epilogue = epilogue,
    .add_scaled = add_scaled,
    .fill_table = fill_table,
};
