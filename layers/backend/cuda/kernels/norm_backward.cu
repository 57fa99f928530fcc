/* norm_backward.cu - the backward pass of batch norm: sums for the gradients of gamma and beta, then dx. */
#include "layers/backend/cuda/kernels/norm.h"

enum { BACKWARD_ROWS = 2 };                                       /* rows that a thread fetches at once */
enum { SUMS_BLOCKS = 3, BACKWARD_BLOCKS = 3, FROM_Y_BLOCKS = 2 }; /* blocks that a multiprocessor runs at once */
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 1200
enum { BACKWARD_FROM_X_BLOCKS = 2 }; /* with three blocks ptxas spills registers here */
#else
enum { BACKWARD_FROM_X_BLOCKS = BACKWARD_BLOCKS };
#endif

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
    const void *g = masked ? masked : dy;
    bool adds = dadd && accumulate;
    struct backward a = {
        x,    relu_y, relu_mask, g, dy, dadd, saved, norm_factors(q), shape->code_scale, shape->code_scale_device,
        adds, grid.s
    };
    norm_reduce_backward(q, shape, gamma, saved, dgamma, dbeta, parts);
    RUN_RELU(backward, masked ? RELU_NONE : relu, q->type, width, grid.x, grid.y, q, a);
}
