/* norm_forward.cu - batch norm of x (rows, C), rows = N*H*W; formulas in layers/backend/ref/norm.c. Each block leaves
 * partial sums in float, which are summed in double, here for the backward pass, too. */
#include "layers/backend/cuda/kernels/norm.h"

#include <assert.h>

enum { MOMENTS_ROWS = 4, AFFINE_ROWS = 2 };     /* rows that a thread fetches at once */
enum { MOMENTS_BLOCKS = 4, AFFINE_BLOCKS = 4 }; /* blocks that a multiprocessor runs at once */
enum { CHANNELS = 8 };                          /* of a block of norm_reduction; each has 32 threads */

/* For each channel, sums of x - origin, its first row, and of the square. Cost: 2 bytes (bf16), 3 flops; 90% of the
 * bandwidth. */
struct moments {
    const void *x;
    float *partials; /* (blocks, 2, c) */
    struct columns s;
};

DEVICE size_t add_moments(const struct moments *a, size_t row, int count, int c, enum element type, int width,
                          const float *origin, float *sum, float *square)
{
    struct packed x[MOMENTS_ROWS];
    float v[VECTOR];
    fetch_rows(&a->s, UP, a->x, row, count, c, type, width, x);
    for (int r = 0; r < count; r++) {
        unpack(&x[r], type, width, v);
        for (int k = 0; k < width; k++) {
            float centred = v[k] - origin[k];
            sum[k] += centred;
            square[k] += centred * centred;
        }
    }
    return row + count * row_step(&a->s, UP);
}

DEVICE void moments(const struct moments *a, enum element type, int width)
{
    SHARED(float, shared, VECTOR *THREADS);
    const int depth = fetch_depth(MOMENTS_ROWS, type);
    int c = column_of(&a->s, width);
    size_t row = c < a->s.c ? first_row(&a->s, UP) : a->s.rows;
    float origin[VECTOR], sum[VECTOR], square[VECTOR];
    for (int k = 0; k < width; k++)
        origin[k] = sum[k] = square[k] = 0;
    if (c < a->s.c)
        load(a->x, c, type, width, origin);
    while (rows_there(&a->s, UP, row, depth))
        row = add_moments(a, row, depth, c, type, width, origin, sum, square);
    while (row < end_row(&a->s, UP))
        row = add_moments(a, row, 1, c, type, width, origin, sum, square);
    store_partial_sums(&a->s, c, width, sum, square, a->partials, shared);
}
KERNELS_MIN_BLOCKS(MOMENTS_BLOCKS, moments, moments)

/* Reduces partial sums, a few kilobytes: see norm_reduce_forward and norm_reduce_backward. */
struct norm_reduction {
    const float *partials;
    int parts, c;
    size_t rows;
    const void
        *origin;    /* forward: the sums are of x minus the first row of x, which is here; NULL: they are of x itself */
    float *saved;   /* (NORM_SAVED, c), written forward, read backward */
    float *moments; /* forward only; NULL: this is backward */
    const float *gamma, *beta;
    float *dgamma, *dbeta;
    float *factors; /* (2, c): b and k, backward only */
};

DEVICE void norm_reduction(const struct norm_reduction *a, enum element type, int width)
{
    SHARED(double, shared, 2 * THREADS / WARP * CHANNELS);
    int channel = threadIdx.x % CHANNELS, warp = threadIdx.x / WARP, c = (int)blockIdx.x * CHANNELS + channel;
    double sum = 0, product = 0, rows = (double)a->rows;
    (void)width;
    for (int part = threadIdx.x / CHANNELS; c < a->c && part < a->parts; part += THREADS / CHANNELS) {
        sum += a->partials[(size_t)part * 2 * a->c + c];
        product += a->partials[(size_t)part * 2 * a->c + a->c + c];
    }
    for (int lanes = CHANNELS; lanes < WARP; lanes *= 2) {
        sum += shuffle_xor_double(sum, lanes);
        product += shuffle_xor_double(product, lanes);
    }
    if (threadIdx.x % WARP < CHANNELS) {
        shared[warp * CHANNELS + channel] = sum;
        shared[(THREADS / WARP + warp) * CHANNELS + channel] = product;
    }
    __syncthreads();
    if (threadIdx.x >= CHANNELS || c >= a->c)
        return;
    for (int w = 1; w < THREADS / WARP; w++) {
        sum += shared[w * CHANNELS + channel];
        product += shared[(THREADS / WARP + w) * CHANNELS + channel];
    }
    if (a->moments) {
        float origin = 0;
        if (a->origin)
            load(a->origin, c, type, 1, &origin);
        double offset = sum / rows, mean = origin + offset, deviations = product - rows * offset * offset;
        double variance = deviations > 0 ? deviations / rows : 0;
        a->saved[c] = (float)mean;
        double inverse = 1 / sqrt(variance + NORM_EPSILON);
        a->saved[a->c + c] = (float)inverse;
        a->saved[2 * a->c + c] = (float)(a->gamma[c] * inverse);
        a->saved[3 * a->c + c] = (float)(a->beta[c] - (mean - (float)mean) * inverse *
                                                          a->gamma[c]); /* what rounding the mean has lost */
        a->moments[c] += (float)mean;
        a->moments[a->c + c] += (float)(variance * rows / (rows > 1 ? rows - 1 : 1));
    } else {
        double inverse = a->saved[a->c + c];
        product *= inverse;
        a->dgamma[c] += (float)product;
        a->dbeta[c] += (float)sum;
        a->factors[c] = (float)(-a->gamma[c] * inverse * inverse * product / rows);
        a->factors[a->c + c] = (float)(-a->gamma[c] * inverse * sum / rows);
    }
}
KERNELS(norm_reduction, norm_reduction)

/* Queues the sums of x minus its first row; returns the number of their parts. */
static int run_moments(const struct queue *q, const struct norm_shape *shape, const void *x)
{
    int width = column_width(shape->c, aligned16(x));
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, MOMENTS_ROWS, MOMENTS_BLOCKS, true);
    struct moments a = { x, (float *)q->partials, grid.s };
    RUN_TYPED(moments, q->type, width, grid.x, grid.y, q, a);
    return grid.x;
}

static void run_reduction(const struct queue *q, const struct norm_reduction *a)
{
    RUN_TYPED(norm_reduction, q->type, 1, (a->c + CHANNELS - 1) / CHANNELS, 1, q, *a);
}

void norm_reduce_forward(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, float *saved, float *moments, int parts)
{
    const void *origin = parts ? NULL : x;
    parts = parts ? parts : run_moments(q, shape, x);
    struct norm_reduction a = {
        (const float *)q->partials, parts, shape->c, shape->rows, origin, saved, moments, gamma, beta, NULL, NULL, NULL
    };
    run_reduction(q, &a);
}

void norm_reduce_backward(const struct queue *q, const struct norm_shape *shape, const float *gamma, const float *saved,
                          float *dgamma, float *dbeta, int parts)
{
    const float *partials = (const float *)q->partials;
    struct norm_reduction a = { partials, parts, shape->c, shape->rows, NULL,  (float *)saved,
                                NULL,     gamma, NULL,     dgamma,      dbeta, norm_factors(q) };
    run_reduction(q, &a);
}

/* y = gamma (x - mean) inverse + beta, + add, then ReLU. Cost (bf16): 4 to 6 bytes, 4 flops; 90% of the bandwidth. */
struct affine {
    const void *x, *add;
    void *y;
    const float *gamma, *beta, *mean;
    const float *variance; /* NULL: gamma is the scale and beta the shift */
    bool relu;
    uint8_t *relu_mask; /* unless NULL; then width is VECTOR */
    struct columns s;
};

DEVICE size_t write_affine(const struct affine *a, size_t row, int count, int c, enum element type, int width,
                           const float *mean, const float *scale, const float *shift)
{
    struct packed x[AFFINE_ROWS], add[AFFINE_ROWS] = { 0 };
    float v[VECTOR], other[VECTOR];
    fetch_rows(&a->s, DOWN, a->x, row, count, c, type, width, x);
    if (a->add)
        fetch_rows(&a->s, DOWN, a->add, row, count, c, type, width, add);
    for (int r = 0; r < count; r++) {
        unpack(&x[r], type, width, v);
        for (int k = 0; k < width; k++)
            v[k] = normalized(v[k] - mean[k], scale[k], shift[k]);
        if (a->add) {
            unpack(&add[r], type, width, other);
            for (int k = 0; k < width; k++)
                v[k] += other[k];
        }
        for (int k = 0; k < width && a->relu; k++)
            v[k] = v[k] < 0 ? 0 : v[k]; /* keeps NaN */
        size_t i = row_at(&a->s, DOWN, row + r * row_step(&a->s, DOWN)) * a->s.c + c;
        store(a->y, i, type, width, v);
        if (a->relu_mask) {
            unsigned relu_mask = 0;
            for (int k = 0; k < width; k++)
                relu_mask |= (unsigned)(v[k] > 0) << k;
            a->relu_mask[i / VECTOR] = (uint8_t)relu_mask;
        }
    }
    return row + count * row_step(&a->s, DOWN);
}

DEVICE void affine(const struct affine *a, enum element type, int width)
{
    const int depth = fetch_depth(AFFINE_ROWS, type);
    int c = column_of(&a->s, width);
    size_t row = first_row(&a->s, DOWN);
    float mean[VECTOR], scale[VECTOR], shift[VECTOR];
    if (c >= a->s.c)
        return;
    load(a->mean, c, F32, width, mean);
    load(a->gamma, c, F32, width, scale);
    load(a->beta, c, F32, width, shift);
    for (int k = 0; k < width && a->variance; k++)
        scale[k] = (float)(scale[k] / sqrt((double)a->variance[c + k] + NORM_EPSILON));
    while (rows_there(&a->s, DOWN, row, depth))
        row = write_affine(a, row, depth, c, type, width, mean, scale, shift);
    while (row < end_row(&a->s, DOWN))
        row = write_affine(a, row, 1, c, type, width, mean, scale, shift);
}
KERNELS_MIN_BLOCKS(AFFINE_BLOCKS, affine, affine)

static void run_affine(const struct queue *q, const struct norm_shape *shape, struct affine *a)
{
    int width = column_width(shape->c, aligned16(a->x) && aligned16(a->y) && aligned16(a->add) && aligned16(a->mean) &&
                                           aligned16(a->gamma) && aligned16(a->beta));
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, AFFINE_ROWS, AFFINE_BLOCKS, false);
    assert(!a->relu_mask || width == VECTOR);
    a->s = grid.s;
    a->relu = shape->relu;
    RUN_TYPED(affine, q->type, width, grid.x, grid.y, q, *a);
}

void kernel_norm_forward(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, const void *add, void *y, float *saved, float *moments, int parts)
{
    uint8_t *relu_mask = add && shape->relu ? shape->relu_mask : NULL;
    struct affine a = { x,    add,   y,         saved + 2 * shape->c, saved + 3 * shape->c, saved,
                        NULL, false, relu_mask, { 0, 0, 0, 0 } };
    norm_reduce_forward(q, shape, x, gamma, beta, saved, moments, parts);
    run_affine(q, shape, &a);
}

void kernel_norm_inference(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y)
{
    struct affine a = { x, add, y, gamma, beta, running, running + shape->c, false, NULL, { 0, 0, 0, 0 } };
    run_affine(q, shape, &a);
}
