/* kernels.c - the CPU backend's passes over memory, written for the compiler's vectoriser. Passes over activations
 * are in activations_tmpl.h, those over floats here. Compiled once per instruction set (base/isa.h). */
#include "layers/backend/cpu/isa/kernels.h"

#include <math.h>
#include <string.h>

#include "layers/backend/cpu/device.h"
#include "layers/backend/cpu/isa/algorithms.h"
#include "layers/backend/cpu/threads.h"
#include "layers/backend/element.h"

/* This thread's part [*from, *to) of 0..count. Parts begin at multiples of `grain`. */
static void thread_range(size_t count, size_t grain, size_t *from, size_t *to)
{
    size_t grains = (count + grain - 1) / grain, threads = thread_count(), self = thread_number();
    *from = grains * self / threads * grain;
    *to = grains * (self + 1) / threads * grain;
    if (*from > count)
        *from = count;
    if (*to > count)
        *to = count;
}

#define ELEMENTS_PER_LINE 32 /* of bf16; as floats they fill two cache lines */

#define TILE  32 /* channels whose sums are kept in registers */
#define BLOCK 64 /* rows that are summed in float before they are added in double */

/* partials (threads, CPU_PARTIALS, C): sums the first two values of all threads into those of thread 0. */
static void sum_partials(double *partials, int channels, int used)
{
    for (int t = 1; t < used; t++)
        for (int c = 0; c < 2 * channels; c++)
            partials[c] += partials[(size_t)t * CPU_PARTIALS * channels + c];
}

#define ELEMENT  float
#define LOAD(x)  (x)
#define STORE(x) (x)
#define NAME(f)  f##_fp32
#include "layers/backend/cpu/isa/activations_tmpl.h"

#define ELEMENT  bf16
#define LOAD(x)  bf16_to_float(x)
#define STORE(x) bf16_from_float(x)
#define NAME(f)  f##_bf16
#include "layers/backend/cpu/isa/activations_tmpl.h"

/* ---- weights ---- */

static void zero(struct device *device, void *data, size_t bytes)
{
    (void)device;
#pragma omp parallel
    {
        size_t from, to;
        thread_range(bytes, 4096, &from, &to);
        memset((char *)data + from, 0, to - from);
    }
}

static void axpby_f32(struct device *device, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    axpby_act_fp32(device, a, x, b, y, out, count);
}

static double dot_f32(struct device *device, const float *x, const float *y, size_t count)
{
    return dot_act_fp32(device, x, y, count);
}

static void widen(const void *from, float *to, size_t count)
{
    download_bf16(NULL, to, from, count);
}

static void round_to_bf16(const float *from, float *to, size_t count)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        to[i] = bf16_to_float(bf16_from_float(from[i]));
}

static void add_scaled(float *to, float alpha, const float *from, size_t count)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        to[i] += alpha * from[i];
}

static void normalize_row(float *row, size_t length)
{
    double norm = sqrt(dot_range_fp32(row, row, length));
    float scale = (float)(1 / (norm > 1e-12 ? norm : 1e-12));
    for (size_t i = 0; i < length; i++)
        row[i] *= scale;
}

static void normalize_rows(struct device *device, float *w, int rows, size_t length)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++)
        normalize_row(w + r * length, length);
}

static void sgd_row(const struct sgd *sgd, float *restrict w, const float *restrict g, float *restrict v, int length,
                    float decay)
{
    float lr = sgd->lr, momentum = sgd->first ? 0 : sgd->momentum, scale = sgd->scale;
    float from_step = sgd->nesterov ? 1 : 0, from_v = sgd->nesterov ? sgd->momentum : 1;
    for (int i = 0; i < length; i++) {
        float step = scale * g[i] + decay * w[i];
        v[i] = momentum * v[i] + step;
        w[i] -= lr * (from_step * step + from_v * v[i]);
    }
}

/* Each row is projected right after its update, while it is in the cache. Rows differ in length. */
static void sgd(struct device *device, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count)
{
    (void)device;
#pragma omp parallel for schedule(dynamic, 8)
    for (int r = 0; r < count; r++) {
        size_t at = rows[r].offset;
        sgd_row(sgd, w + at, g + at, v + at, rows[r].length, rows[r].decays ? sgd->weight_decay : 0);
        if (rows[r].atom)
            normalize_row(w + at, rows[r].length);
    }
}

/* ---- linear ---- */

static void linear_forward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n * k; i++)
        y[i] = (float)(b[i % k] + dot_range_fp32(x + (size_t)(i / k) * c, w + (size_t)(i % k) * c, c));
}

static void linear_backward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *dy,
                            float *dx, float *dw, float *db)
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

static void fill_table(struct backend *table, enum precision precision)
{
    if (precision == PRECISION_BF16)
        fill_activations_bf16(table);
    else
        fill_activations_fp32(table);
    table->zero = zero;
    table->axpby_f32 = axpby_f32;
    table->dot_f32 = dot_f32;
    table->linear_forward = linear_forward;
    table->linear_backward = linear_backward;
    table->sgd = sgd;
    table->normalize_rows = normalize_rows;
}

/* The sets that the files bf16*.c are compiled for. */
#define HAS_BF16_bf16 1
#define HAS_BF16_amx  1

const struct kernels ISA_NAME(kernels) = {
    .name = ISA_TEXT,
    .epilogue = { [PRECISION_FP32] = epilogue_fp32, [PRECISION_BF16] = epilogue_bf16 },
    .widen = widen,
    .round_to_bf16 = round_to_bf16,
    .add_scaled = add_scaled,
    .algorithms = { [PRECISION_FP32] = { &ISA_NAME(winograd), &ISA_NAME(single_image), &ISA_NAME(few_channels) },
#if ISA_NAME(HAS_BF16)
                    [PRECISION_BF16] = { &ISA_NAME(bf16) },
#endif
    },
    .fill_table = fill_table,
};
