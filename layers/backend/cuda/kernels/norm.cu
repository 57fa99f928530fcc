/* norm.cu - batch norm of x (rows, C), rows = N*H*W; formulas in layers/backend/ref/norm.c. Each block leaves
 * partial sums in float, which are summed in double. */
#include "layers/backend/cuda/kernels/norm.h"

#include <assert.h>

enum { MOMENTS_ROWS = 4, AFFINE_ROWS = 2, BACKWARD_ROWS = 2 }; /* rows that a thread fetches at once */
enum {
    MOMENTS_BLOCKS = 4,
    SUMS_BLOCKS = 3,
    AFFINE_BLOCKS = 4,
    BACKWARD_BLOCKS = 3,
    FROM_Y_BLOCKS = 2
}; /* blocks that a multiprocessor runs at once */
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 1200
enum { BACKWARD_FROM_X_BLOCKS = 2 }; /* with three blocks ptxas spills registers here */
#else
enum { BACKWARD_FROM_X_BLOCKS = BACKWARD_BLOCKS };
#endif
enum { CHANNELS = 8 }; /* of a block of norm_reduction; each has 32 threads */

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

/* How backward finds where the ReLU was active: there g = dy, elsewhere 0. FROM_X: from x, without add. FROM_Y: from
 * y or the mask, with add; without ReLU both are NULL. */
enum relu_source { RELU_NONE, RELU_FROM_X, RELU_FROM_Y };

/* A kernel for each source, so that none reserves registers for the others. */
#define RELU_KERNELS(blocks, from_x_blocks, from_y_blocks, body, arguments)             \
    DEVICE void body##_no_relu(const struct arguments *a, enum element type, int width) \
    {                                                                                   \
        body(a, type, width, RELU_NONE);                                                \
    }                                                                                   \
    DEVICE void body##_from_x(const struct arguments *a, enum element type, int width)  \
    {                                                                                   \
        body(a, type, width, RELU_FROM_X);                                              \
    }                                                                                   \
    DEVICE void body##_from_y(const struct arguments *a, enum element type, int width)  \
    {                                                                                   \
        body(a, type, width, RELU_FROM_Y);                                              \
    }                                                                                   \
    KERNELS_MIN_BLOCKS(blocks, body##_no_relu, arguments)                               \
    KERNELS_MIN_BLOCKS(from_x_blocks, body##_from_x, arguments)                         \
    KERNELS_MIN_BLOCKS(from_y_blocks, body##_from_y, arguments)

#define RUN_RELU(body, relu, type, width, blocks_x, blocks_y, queue, arguments)           \
    do {                                                                                  \
        if ((relu) == RELU_NONE)                                                          \
            RUN_TYPED(body##_no_relu, type, width, blocks_x, blocks_y, queue, arguments); \
        else if ((relu) == RELU_FROM_X)                                                   \
            RUN_TYPED(body##_from_x, type, width, blocks_x, blocks_y, queue, arguments);  \
        else                                                                              \
            RUN_TYPED(body##_from_y, type, width, blocks_x, blocks_y, queue, arguments);  \
    } while (0)

/* For each channel, sums of g and of g (x - mean). Cost (bf16): 4 bytes, from y 2 more (from the mask 1/8), 2 more
 * each with `more` and if g is written, 5 to 8 flops; 90% of the bandwidth. */
struct sums {
    const void *x, *y, *dy;
    const uint8_t *relu_mask; /* FROM_Y: read instead of y, unless NULL */
    const void *more;         /* FROM_Y: added to dy, unless NULL */
    const float *saved;       /* (NORM_SAVED, c) */
    void *g;                  /* FROM_Y: g is stored here for the next pass, unless NULL */
    float *partials;          /* (blocks, 2, c) */
    struct columns s;
};

/* What a thread keeps of its channels. */
struct sums_channels {
    float mean[VECTOR], scale[VECTOR], shift[VECTOR], sum[VECTOR], product[VECTOR];
};

/* Where the ReLU was active, for the rows that were fetched: from y or from the mask. */
struct relu_rows {
    struct packed y[BACKWARD_ROWS];
    unsigned relu_mask[BACKWARD_ROWS];
};

DEVICE void fetch_relu_rows(const struct columns *s, enum walk walk, const void *y, const uint8_t *relu_mask,
                            size_t row, int count, int c, enum element type, int width, struct relu_rows *relu_rows)
{
    if (relu_mask)
        for (int r = 0; r < count; r++)
            relu_rows->relu_mask[r] = relu_mask[(row_at(s, walk, row + r * row_step(s, walk)) * s->c + c) / VECTOR];
    else
        fetch_rows(s, walk, y, row, count, c, type, width, relu_rows->y);
}

/* Sets g of the r-th fetched row to 0 where the ReLU was not active. */
DEVICE void apply_relu(const struct relu_rows *relu_rows, bool bits, int r, int c, enum element type, int width,
                       float *g)
{
    float y[VECTOR];
    if (bits) {
        unsigned relu_mask = relu_rows->relu_mask[r] >> c % VECTOR;
        for (int k = 0; k < width; k++)
            g[k] = relu_mask >> k & 1 ? g[k] : 0;
    } else {
        unpack(&relu_rows->y[r], type, width, y);
        for (int k = 0; k < width; k++)
            g[k] = y[k] > 0 ? g[k] : 0;
    }
}

DEVICE size_t add_sums(const struct sums *a, size_t row, int count, int c, enum element type, int width,
                       enum relu_source relu, struct sums_channels *channels)
{
    struct packed x[BACKWARD_ROWS], dy[BACKWARD_ROWS], more[BACKWARD_ROWS] = { 0 };
    struct relu_rows relu_rows = { 0 };
    float v[VECTOR], g[VECTOR], other[VECTOR];
    bool has_relu = relu == RELU_FROM_Y && (a->y || a->relu_mask), adds = relu == RELU_FROM_Y && a->more;
    fetch_rows(&a->s, UP, a->x, row, count, c, type, width, x);
    fetch_rows(&a->s, UP, a->dy, row, count, c, type, width, dy);
    if (has_relu)
        fetch_relu_rows(&a->s, UP, a->y, a->relu_mask, row, count, c, type, width, &relu_rows);
    if (adds)
        fetch_rows(&a->s, UP, a->more, row, count, c, type, width, more);
    for (int r = 0; r < count; r++) {
        unpack(&x[r], type, width, v);
        unpack(&dy[r], type, width, g);
        if (adds) {
            unpack(&more[r], type, width, other);
            for (int k = 0; k < width; k++)
                g[k] += other[k];
        }
        if (has_relu)
            apply_relu(&relu_rows, a->relu_mask, r, c, type, width, g);
        for (int k = 0; k < width; k++) {
            v[k] -= channels->mean[k];
            if (relu == RELU_FROM_X)
                g[k] = normalized(v[k], channels->scale[k], channels->shift[k]) > 0 ? g[k] : 0;
            channels->sum[k] += g[k];
            channels->product[k] += g[k] * v[k];
        }
        if (relu == RELU_FROM_Y && a->g)
            store(a->g, row_at(&a->s, UP, row + r * row_step(&a->s, UP)) * a->s.c + c, type, width, g);
    }
    return row + count * row_step(&a->s, UP);
}

DEVICE void sums(const struct sums *a, enum element type, int width, enum relu_source relu)
{
    SHARED(float, shared, VECTOR *THREADS);
    const int depth = fetch_depth(BACKWARD_ROWS, type);
    int c = column_of(&a->s, width);
    size_t row = c < a->s.c ? first_row(&a->s, UP) : a->s.rows;
    struct sums_channels channels = { 0 };
    if (c < a->s.c) {
        load(a->saved, c, F32, width, channels.mean);
        load(a->saved, 2 * a->s.c + c, F32, width, channels.scale);
        load(a->saved, 3 * a->s.c + c, F32, width, channels.shift);
    }
    while (rows_there(&a->s, UP, row, depth))
        row = add_sums(a, row, depth, c, type, width, relu, &channels);
    while (row < end_row(&a->s, UP))
        row = add_sums(a, row, 1, c, type, width, relu, &channels);
    store_partial_sums(&a->s, c, width, channels.sum, channels.product, a->partials, shared);
}
RELU_KERNELS(SUMS_BLOCKS, SUMS_BLOCKS, FROM_Y_BLOCKS, sums, sums)

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

int norm_moments(const struct queue *q, const struct norm_shape *shape, const void *x)
{
    int width = column_width(shape->c, aligned16(x));
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, MOMENTS_ROWS, MOMENTS_BLOCKS, true);
    struct moments a = { x, (float *)q->partials, grid.s };
    RUN_TYPED(moments, q->type, width, grid.x, grid.y, q, a);
    return grid.x;
}

static int run_sums(const struct queue *q, const struct norm_shape *shape, enum relu_source relu, struct sums *a)
{
    int width = column_width(shape->c, aligned16(a->x) && aligned16(a->y) && aligned16(a->dy) && aligned16(a->more) &&
                                           aligned16(a->g) && aligned16(a->saved));
    int blocks = relu == RELU_FROM_Y ? FROM_Y_BLOCKS : SUMS_BLOCKS;
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, BACKWARD_ROWS, blocks, true);
    a->partials = (float *)q->partials;
    a->s = grid.s;
    RUN_RELU(sums, relu, q->type, width, grid.x, grid.y, q, *a);
    return grid.x;
}

void norm_reduce(const struct queue *q, const struct norm_reduction *a)
{
    RUN_TYPED(norm_reduction, q->type, 1, (a->c + CHANNELS - 1) / CHANNELS, 1, q, *a);
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
    struct norm_reduction j = {
        (const float *)q->partials, parts, shape->c, shape->rows, NULL, saved, moments, gamma, beta, NULL, NULL, NULL
    };
    struct affine a = { x,
                        add,
                        y,
                        saved + 2 * shape->c,
                        saved + 3 * shape->c,
                        saved,
                        NULL,
                        false,
                        add && shape->relu ? shape->relu_mask : NULL,
                        { 0, 0, 0, 0 } };
    if (parts == 0) {
        j.parts = norm_moments(q, shape, x);
        j.origin = x;
    }
    norm_reduce(q, &j);
    run_affine(q, shape, &a);
}

void kernel_norm_inference(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y)
{
    struct affine a = { x, add, y, gamma, beta, running, running + shape->c, false, NULL, { 0, 0, 0, 0 } };
    run_affine(q, shape, &a);
}

/* dy = scale g + b (x - mean) + k, times nu where x is not 0 (else 0) if x is a code; dadd = g, or += g. Cost
 * (bf16): 6 bytes, 2 more from y, 2 or 4 more with dadd, 5 to 7 flops; 90% of the bandwidth. */
struct backward {
    const void *x, *y; /* as in struct sums */
    const uint8_t *relu_mask;
    const void *g;   /* dy, or the g that the sums' pass stored; then the source is RELU_NONE */
    void *dy, *dadd; /* dadd: with FROM_Y */
    const float *saved, *factors;
    float nu;               /* 0: x is not a code */
    const float *nu_device; /* device memory; NULL: nu is used */
    bool accumulate;        /* dadd += g */
    struct columns s;
};

/* What a thread keeps of its channels. */
struct backward_channels {
    float mean[VECTOR], scale[VECTOR], shift[VECTOR], b[VECTOR], k[VECTOR], nu;
};

DEVICE size_t write_backward(const struct backward *a, size_t row, int count, int c, enum element type, int width,
                             enum relu_source relu, const struct backward_channels *channels)
{
    struct packed x[BACKWARD_ROWS], dy[BACKWARD_ROWS], dadd[BACKWARD_ROWS] = { 0 };
    struct relu_rows relu_rows = { 0 };
    float v[VECTOR], g[VECTOR], other[VECTOR];
    bool has_relu = relu == RELU_FROM_Y && (a->y || a->relu_mask);
    fetch_rows(&a->s, DOWN, a->g, row, count, c, type, width, dy);
    fetch_rows(&a->s, DOWN, a->x, row, count, c, type, width, x);
    if (has_relu)
        fetch_relu_rows(&a->s, DOWN, a->y, a->relu_mask, row, count, c, type, width, &relu_rows);
    if (relu == RELU_FROM_Y && a->accumulate)
        fetch_rows(&a->s, DOWN, a->dadd, row, count, c, type, width, dadd);
    for (int r = 0; r < count; r++) {
        size_t i = row_at(&a->s, DOWN, row + r * row_step(&a->s, DOWN)) * a->s.c + c;
        unpack(&dy[r], type, width, g);
        if (has_relu)
            apply_relu(&relu_rows, a->relu_mask, r, c, type, width, g);
        if (relu == RELU_FROM_Y) {
            unpack(&dadd[r], type, width, other);
            for (int k = 0; k < width; k++)
                other[k] += g[k];
            store(a->dadd, i, type, width, other);
        }
        unpack(&x[r], type, width, v);
        for (int k = 0; k < width; k++) {
            float centred = v[k] - channels->mean[k];
            if (relu == RELU_FROM_X)
                g[k] = normalized(centred, channels->scale[k], channels->shift[k]) > 0 ? g[k] : 0;
            g[k] = channels->scale[k] * g[k] + channels->b[k] * centred + channels->k[k];
            g[k] = channels->nu == 0 ? g[k] : v[k] != 0 ? channels->nu * g[k] : 0;
        }
        store(a->dy, i, type, width, g);
    }
    return row + count * row_step(&a->s, DOWN);
}

DEVICE void backward(const struct backward *a, enum element type, int width, enum relu_source relu)
{
    const int depth = fetch_depth(BACKWARD_ROWS, type);
    int c = column_of(&a->s, width);
    size_t row = first_row(&a->s, DOWN);
    struct backward_channels channels;
    if (c >= a->s.c)
        return;
    channels.nu = a->nu_device ? *a->nu_device : a->nu;
    load(a->saved, c, F32, width, channels.mean); /* not part of k, where it would cancel */
    load(a->saved, 2 * a->s.c + c, F32, width, channels.scale);
    load(a->saved, 3 * a->s.c + c, F32, width, channels.shift);
    load(a->factors, c, F32, width, channels.b);
    load(a->factors, a->s.c + c, F32, width, channels.k);
    while (rows_there(&a->s, DOWN, row, depth))
        row = write_backward(a, row, depth, c, type, width, relu, &channels);
    while (row < end_row(&a->s, DOWN))
        row = write_backward(a, row, 1, c, type, width, relu, &channels);
}
RELU_KERNELS(BACKWARD_BLOCKS, BACKWARD_FROM_X_BLOCKS, FROM_Y_BLOCKS, backward, backward)

void kernel_norm_backward(const struct queue *q, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                          const void *more, const float *gamma, const float *saved, void *dadd, bool accumulate,
                          float *dgamma, float *dbeta)
{
    /* Without add x tells where y > 0, so that y is not read. (Where y was too small for bf16 it is 0, but the ReLU
     * counts as active.) */
    enum relu_source relu = dadd ? RELU_FROM_Y : shape->relu ? RELU_FROM_X : RELU_NONE;
    const uint8_t *relu_mask = dadd && shape->relu ? shape->relu_mask : NULL;
    const void *relu_y = dadd && shape->relu && !relu_mask ? y : NULL;
    /* In this case dadd is g, and the second pass reads it instead of computing it again. */
    void *masked = relu == RELU_FROM_Y && shape->relu && !accumulate ? dadd : NULL;
    if (more && !masked) {
        kernel_axpby_act(q, 1, dy, 1, more, dy, shape->rows * shape->c);
        more = NULL;
    }
    int width = column_width(shape->c,
                             aligned16(x) && aligned16(relu_y) && aligned16(dy) && aligned16(dadd) && aligned16(saved));
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, BACKWARD_ROWS, BACKWARD_BLOCKS, false);
    struct sums s = { x, relu_y, dy, relu_mask, more, saved, masked, NULL, { 0, 0, 0, 0 } };
    int parts = run_sums(q, shape, relu, &s);
    struct norm_reduction j = { (const float *)q->partials,
                                parts,
                                shape->c,
                                shape->rows,
                                NULL,
                                (float *)saved,
                                NULL,
                                gamma,
                                NULL,
                                dgamma,
                                dbeta,
                                norm_factors(q) };
    struct backward a = { x,
                          relu_y,
                          relu_mask,
                          masked ? masked : dy,
                          dy,
                          dadd,
                          saved,
                          norm_factors(q),
                          shape->code_scale,
                          shape->code_scale_device,
                          dadd && accumulate,
                          grid.s };
    norm_reduce(q, &j);
    RUN_RELU(backward, masked ? RELU_NONE : relu, q->type, width, grid.x, grid.y, q, a);
}
