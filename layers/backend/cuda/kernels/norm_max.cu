/* norm_max.cu - batch norm, ReLU and max pooling in one pass, without storing the activations in between. A
 * normalised channel is monotonic in x, so the maximum is found in x itself; kept are its position in the window and
 * its x. */
#include "layers/backend/cuda/kernels/norm.h"
#include "layers/backend/cuda/kernels/pool.h"

enum { INACTIVE = 255 }; /* instead of a position: the ReLU was not active at the maximum */
enum {
    ARGMAX_ROWS = 4,
    POOL_BLOCKS = 3
}; /* rows that a thread fetches at once; blocks that a multiprocessor runs at once */

/* The arguments of the passes over pixels. Images are blockIdx.y. */
struct pooling {
    struct pool_shape s;
    int oh, ow;
    const void *x, *dy;          /* dy: backward only */
    void *y, *argmax_value, *dx; /* y and argmax_value: forward only */
    uint8_t *argmax_in_window;   /* each maximum's position in its window, k row + column, or INACTIVE */
    const float *saved;          /* (NORM_SAVED, c) */
    const float *factors;        /* backward, (2, c): b and k of norm_reduce_backward */
    bool relu;
    float nu; /* backward: code_scale of struct norm_shape, or its copy in device memory */
    const float *nu_device;
};

/* `width` positions, a byte each. */
DEVICE uint2 load_argmax(const uint8_t *from, int width)
{
    uint2 v;
    v.x = v.y = 0;
    if (width == 1)
        v.x = from[0];
    else
        v = *(const uint2 *)from;
    return v;
}

DEVICE int argmax_of(uint2 positions, int k)
{
    return (int)((k < 4 ? positions.x >> 8 * k : positions.y >> 8 * (k - 4)) & 255);
}

/* Each thread has `width` channels of one output pixel. Cost (bf16): 2 bytes for each input element, 5 for each
 * output element (y, and x and position of the maximum), k^2 comparisons; 80% of the bandwidth, since windows that
 * overlap read from the cache. */
DEVICE void pool_forward(const struct pooling *a, enum element type, int width)
{
    const struct pool_shape *s = &a->s;
    unsigned groups = s->c / width, t = blockIdx.x * THREADS + threadIdx.x, pixel = t / groups;
    if (pixel >= (unsigned)a->oh * a->ow)
        return;
    int c = (int)(t % groups) * width, i = (int)(pixel / a->ow), j = (int)(pixel % a->ow);
    int top = i * s->stride - s->pad, left = j * s->stride - s->pad;
    float sign[VECTOR], best[VECTOR], mean[VECTOR], scale[VECTOR], shift[VECTOR];
    int at[VECTOR];
    load(a->saved, 2 * s->c + c, F32, width, scale);
    for (int k = 0; k < width; k++)
        sign[k] = scale[k] < 0 ? -1 : 1;
    for (size_t n = blockIdx.y; n < (size_t)s->n; n += gridDim.y) {
        size_t out = (n * a->oh * a->ow + pixel) * s->c + c;
        for (int k = 0; k < VECTOR; k++)
            best[k] = 0, at[k] = INACTIVE;
        if (s->k == 3)
            best_of_nine(s, a->x, n * s->h * s->w, top, left, c, type, width, sign, best, at);
        else
            best_of_window(s, a->x, n * s->h * s->w, top, left, c, type, width, sign, best, at);
        for (int k = 0; k < width; k++)
            best[k] *= sign[k];
        store(a->argmax_value, out, type, width, best);
        load(a->saved, c, F32, width, mean);
        load(a->saved, 2 * s->c + c, F32, width, scale);
        load(a->saved, 3 * s->c + c, F32, width, shift);
        for (int k = 0; k < width; k++) {
            float v = normalized(best[k] - mean[k], scale[k], shift[k]);
            best[k] = a->relu && v < 0 ? 0 : v; /* NaN stays */
            at[k] = a->relu && !(v > 0) ? INACTIVE : at[k];
        }
        store(a->y, out, type, width, best);
        if (width == 1) {
            a->argmax_in_window[out] = (uint8_t)at[0];
        } else {
            uint2 positions;
            positions.x = at[0] | at[1] << 8 | at[2] << 16 | (unsigned)at[3] << 24;
            positions.y = at[4] | at[5] << 8 | at[6] << 16 | (unsigned)at[7] << 24;
            *(uint2 *)(a->argmax_in_window + out) = positions;
        }
    }
}
KERNELS_MIN_BLOCKS(2, pool_forward, pooling)

/* For each channel, sums of g and of g (x - mean) over the maxima: everything else has no gradient. Cost: 5 bytes
 * (bf16), 4 flops; 90% of the bandwidth. */
struct argmax_sums {
    const void *argmax_value, *dy;
    const uint8_t *argmax_in_window;
    const float *mean;
    float *partials; /* (blocks, 2, c) */
    struct columns s;
};

DEVICE size_t add_argmax(const struct argmax_sums *a, size_t row, int count, int c, enum element type, int width,
                         const float *mean, float *sum, float *product)
{
    struct packed argmax_value[ARGMAX_ROWS], dy[ARGMAX_ROWS];
    uint2 positions[ARGMAX_ROWS];
    float v[VECTOR], g[VECTOR];
    fetch_rows(&a->s, UP, a->argmax_value, row, count, c, type, width, argmax_value);
    fetch_rows(&a->s, UP, a->dy, row, count, c, type, width, dy);
    for (int r = 0; r < count; r++)
        positions[r] = load_argmax(a->argmax_in_window + row_at(&a->s, UP, row + r * row_step(&a->s, UP)) * a->s.c + c,
                                   width);
    for (int r = 0; r < count; r++) {
        unpack(&argmax_value[r], type, width, v);
        unpack(&dy[r], type, width, g);
        for (int k = 0; k < width; k++) {
            g[k] = argmax_of(positions[r], k) == INACTIVE ? 0 : g[k];
            sum[k] += g[k];
            product[k] += g[k] * (v[k] - mean[k]);
        }
    }
    return row + count * row_step(&a->s, UP);
}

DEVICE void argmax_sums(const struct argmax_sums *a, enum element type, int width)
{
    SHARED(float, shared, VECTOR *THREADS);
    const int depth = fetch_depth(ARGMAX_ROWS, type);
    int c = column_of(&a->s, width);
    size_t row = c < a->s.c ? first_row(&a->s, UP) : a->s.rows;
    float mean[VECTOR], sum[VECTOR], product[VECTOR];
    for (int k = 0; k < width; k++)
        mean[k] = sum[k] = product[k] = 0;
    if (c < a->s.c)
        load(a->mean, c, F32, width, mean);
    while (rows_there(&a->s, UP, row, depth))
        row = add_argmax(a, row, depth, c, type, width, mean, sum, product);
    while (row < end_row(&a->s, UP))
        row = add_argmax(a, row, 1, c, type, width, mean, sum, product);
    store_partial_sums(&a->s, c, width, sum, product, a->partials, shared);
}
KERNELS_MIN_BLOCKS(POOL_BLOCKS, argmax_sums, argmax_sums)

/* Adds dy of the windows (i, j) and (i, j + 1), if it exists, to the patch's pixels that are their maxima: sum
 * (PATCH * PATCH, VECTOR). */
DEVICE void add_windows(const struct pooling *a, size_t n, const struct patch *at, int i, int j, enum element type,
                        int width, float (*sum)[VECTOR])
{
    const struct pool_shape *s = &a->s;
    struct packed dy[2];
    uint2 positions[2];
    float v[VECTOR];
    for (int w = 0; w < 2; w++) {
        size_t out = ((n * a->oh + i) * a->ow + (j + w < at->to_j ? j + w : at->to_j)) * s->c + at->c;
        dy[w] = fetch(a->dy, out, type, width);
        positions[w] = load_argmax(a->argmax_in_window + out, width);
    }
    for (int w = 0; w < 2; w++) {
        int top = i * s->stride - s->pad, left = (j + w) * s->stride - s->pad;
        unpack(&dy[w], type, width, v);
        for (int p = 0; p < PATCH * PATCH; p++) {
            int row = at->y + p / PATCH - top, column = at->x + p % PATCH - left;
            bool inside = j + w <= at->to_j && row >= 0 && row < s->k && column >= 0 && column < s->k;
            int argmax_in_window = inside ? row * s->k + column : -1;
            for (int k = 0; k < width; k++)
                sum[p][k] += argmax_of(positions[w], k) == argmax_in_window ? v[k] : 0;
        }
    }
}

/* dx = scale g + b (x - mean) + k, times nu where x is not 0 (else 0) if x is a code; g is the sum of dy over the
 * windows whose maximum x is. A thread has PATCH x PATCH pixels and reads their windows once. Cost (bf16): 4 bytes
 * for each input element and 3 for each output element, with k = 3 and stride 2 10 flops and 4 comparisons for each
 * input element; 80% of the bandwidth. */
DEVICE void pool_backward(const struct pooling *a, enum element type, int width)
{
    const struct pool_shape *s = &a->s;
    struct patch at;
    if (!patch_of(s, a->oh, a->ow, width, &at))
        return;
    int c = at.c, y = at.y, x = at.x;
    float nu = a->nu_device ? *a->nu_device : a->nu;
    for (size_t n = blockIdx.y; n < (size_t)s->n; n += gridDim.y) {
        float sum[PATCH * PATCH][VECTOR], v[VECTOR], mean[VECTOR], scale[VECTOR], b[VECTOR], add[VECTOR];
        struct packed pixels[PATCH * PATCH];
        size_t image = n * s->h * s->w;
        for (int p = 0; p < PATCH * PATCH; p++) {
            int row = clamped(y + p / PATCH, s->h), column = clamped(x + p % PATCH, s->w);
            if (type == BF16) /* floats would need too many registers */
                pixels[p] = fetch(a->x, (image + row * s->w + column) * s->c + c, type, width);
            for (int k = 0; k < width; k++)
                sum[p][k] = 0;
        }
        for (int i = at.from_i; i <= at.to_i; i++)
            for (int j = at.from_j; j <= at.to_j; j += 2)
                add_windows(a, n, &at, i, j, type, width, sum);
        load(a->saved, c, F32, width, mean);
        load(a->saved, 2 * s->c + c, F32, width, scale);
        load(a->factors, c, F32, width, b);
        load(a->factors, s->c + c, F32, width, add);
        for (int p = 0; p < PATCH * PATCH; p++) {
            if (y + p / PATCH >= s->h || x + p % PATCH >= s->w)
                continue;
            if (type == F32)
                load(a->x, (image + (y + p / PATCH) * s->w + x + p % PATCH) * s->c + c, type, width, v);
            else
                unpack(&pixels[p], type, width, v);
            for (int k = 0; k < width; k++) {
                float g = scale[k] * sum[p][k] + b[k] * (v[k] - mean[k]) + add[k];
                v[k] = nu == 0 ? g : v[k] != 0 ? nu * g : 0;
            }
            store(a->dx, (image + (y + p / PATCH) * s->w + x + p % PATCH) * s->c + c, type, width, v);
        }
    }
}
KERNELS_MIN_BLOCKS(2, pool_backward, pooling)

static struct pooling pooling(const struct norm_shape *norm, const struct pool_shape *s, const void *x,
                              const float *saved, const uint8_t *argmax_in_window)
{
    struct pooling a = { *s,
                         (s->h + 2 * s->pad - s->k) / s->stride + 1,
                         (s->w + 2 * s->pad - s->k) / s->stride + 1,
                         x,
                         NULL,
                         NULL,
                         NULL,
                         NULL,
                         (uint8_t *)argmax_in_window,
                         saved,
                         NULL,
                         norm->relu,
                         norm->code_scale,
                         norm->code_scale_device };
    return a;
}

/* VECTOR only if everything that is read with this width is aligned. */
static int pooled_width(const struct pooling *a)
{
    return column_width(a->s.c, aligned16(a->x) && aligned16(a->dy) && aligned16(a->y) && aligned16(a->argmax_value) &&
                                    aligned16(a->dx) && aligned16(a->argmax_in_window) && aligned16(a->saved));
}

void kernel_norm_max_forward(const struct queue *q, const struct norm_shape *norm, const struct pool_shape *s,
                             const void *x, const float *gamma, const float *beta, void *y, float *saved,
                             float *moments, uint8_t *argmax_in_window, void *argmax_value, int parts)
{
    struct pooling a = pooling(norm, s, x, saved, argmax_in_window);
    a.y = y;
    a.argmax_value = argmax_value;
    int width = pooled_width(&a);
    norm_reduce_forward(q, norm, x, gamma, beta, saved, moments, parts);
    RUN_TYPED(pool_forward, q->type, width, blocks_for((size_t)a.oh * a.ow * (s->c / width)), image_blocks(s->n), q, a);
}

void kernel_norm_max_backward(const struct queue *q, const struct norm_shape *norm, const struct pool_shape *s,
                              const void *x, const uint8_t *argmax_in_window, const void *argmax_value, const void *dy,
                              void *dx, const float *gamma, const float *saved, float *dgamma, float *dbeta)
{
    struct pooling a = pooling(norm, s, x, saved, argmax_in_window);
    a.dy = dy;
    a.argmax_value = (void *)argmax_value;
    a.dx = dx;
    a.factors = norm_factors(q);
    int width = pooled_width(&a);
    size_t rows = (size_t)s->n * a.oh * a.ow;
    struct column_grid grid = column_grid(q, rows, s->c, width, ARGMAX_ROWS, POOL_BLOCKS, true);
    struct argmax_sums sums = { argmax_value, dy, argmax_in_window, saved, (float *)q->partials, grid.s };
    RUN_TYPED(argmax_sums, q->type, width, grid.x, grid.y, q, sums);
    norm_reduce_backward(q, norm, gamma, saved, dgamma, dbeta, grid.x);
    RUN_TYPED(pool_backward, q->type, width, patch_blocks(s, width), image_blocks(s->n), q, a);
}
