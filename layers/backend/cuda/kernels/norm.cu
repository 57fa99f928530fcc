/* norm.cu - batch norm over rows = N*H*W of x (rows, C); formulas in layers/backend/ref/norm.c.
 * Sums are partial sums of float per block, joined in double. */
#include "layers/backend/cuda/kernels/norm.h"

#include <assert.h>

enum { AHEAD = 4, AHEAD_AFFINE = 2, AHEAD_BACK = 2 }; /* rows that a thread fetches at once */
enum {
    MOMENTS_AT_ONCE = 4,
    SUMS_AT_ONCE = 3,
    AFFINE_AT_ONCE = 4,
    BACK_AT_ONCE = 3,
    BY_Y_AT_ONCE = 2
}; /* blocks of a multiprocessor */
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 1200
enum { BACK_BY_X_AT_ONCE = 2 }; /* with three, ptxas spills registers there */
#else
enum { BACK_BY_X_AT_ONCE = BACK_AT_ONCE };
#endif
enum { CHANNELS = 8 }; /* joining: a block's channels, each taken by 32 threads */

/* Sums per channel of x - origin, the first row, and its square. bf16: 2 bytes, 3 flops an element; 90%. */
struct moments {
    const void *x;
    float *partials; /* (blocks, 2, c) */
    struct columns s;
};

DEVICE size_t add_moments(const struct moments *a, size_t row, int many, int c, enum element type, int width,
                          const float *origin, float *sum, float *square)
{
    struct packed x[AHEAD];
    float v[WIDE];
    fetch_rows(&a->s, UP, a->x, row, many, c, type, width, x);
    for (int r = 0; r < many; r++) {
        unpack(&x[r], type, width, v);
        for (int k = 0; k < width; k++) {
            float centred = v[k] - origin[k];
            sum[k] += centred;
            square[k] += centred * centred;
        }
    }
    return row + many * row_step(&a->s, UP);
}

DEVICE void moments(const struct moments *a, enum element type, int width)
{
    SHARED(float, shared, WIDE *THREADS);
    const int ahead = ahead_of(AHEAD, type);
    int c = column_of(&a->s, width);
    size_t row = c < a->s.c ? first_row(&a->s, UP) : a->s.rows;
    float origin[WIDE], sum[WIDE], square[WIDE];
    for (int k = 0; k < width; k++)
        origin[k] = sum[k] = square[k] = 0;
    if (c < a->s.c)
        load(a->x, c, type, width, origin);
    while (rows_there(&a->s, UP, row, ahead))
        row = add_moments(a, row, ahead, c, type, width, origin, sum, square);
    while (row < end_row(&a->s, UP))
        row = add_moments(a, row, 1, c, type, width, origin, sum, square);
    leave_sums(&a->s, c, width, sum, square, a->partials, shared);
}
KERNELS_AT_ONCE(MOMENTS_AT_ONCE, moments, moments)

/* What tells where a ReLU was open, so that g = dy, not 0. BY_Y: with add; without ReLU y is NULL. */
enum gate { OPEN, BY_X, BY_Y };

/* One kernel for each, so that none keeps registers for what others need. */
#define GATED_KERNELS(at_once, by_x_at_once, by_y_at_once, body, arguments)          \
    DEVICE void body##_open(const struct arguments *a, enum element type, int width) \
    {                                                                                \
        body(a, type, width, OPEN);                                                  \
    }                                                                                \
    DEVICE void body##_by_x(const struct arguments *a, enum element type, int width) \
    {                                                                                \
        body(a, type, width, BY_X);                                                  \
    }                                                                                \
    DEVICE void body##_by_y(const struct arguments *a, enum element type, int width) \
    {                                                                                \
        body(a, type, width, BY_Y);                                                  \
    }                                                                                \
    KERNELS_AT_ONCE(at_once, body##_open, arguments)                                 \
    KERNELS_AT_ONCE(by_x_at_once, body##_by_x, arguments)                            \
    KERNELS_AT_ONCE(by_y_at_once, body##_by_y, arguments)

#define RUN_GATED(body, gate, type, width, blocks_x, blocks_y, queue, arguments)       \
    do {                                                                               \
        if ((gate) == OPEN)                                                            \
            RUN_TYPED(body##_open, type, width, blocks_x, blocks_y, queue, arguments); \
        else if ((gate) == BY_X)                                                       \
            RUN_TYPED(body##_by_x, type, width, blocks_x, blocks_y, queue, arguments); \
        else                                                                           \
            RUN_TYPED(body##_by_y, type, width, blocks_x, blocks_y, queue, arguments); \
    } while (0)

/* Sums per channel of g and g (x - mean). bf16: 4, by y 6 bytes (by bits 4 1/8), with `more` 2 more, and 2 if g is
 * written, 5 to 8 flops an element; 90%. */
struct sums {
    const void *x, *y, *dy;
    const uint8_t *open; /* BY_Y, not NULL: instead of y */
    const void *more;    /* BY_Y, not NULL: added to dy */
    const float *saved;  /* (NORM_SAVED, c) */
    void *g;             /* BY_Y, not NULL: g goes there, for the next pass */
    float *partials;     /* (blocks, 2, c) */
    struct columns s;
};

/* What a thread keeps of its channels. */
struct sums_kept {
    float mean[WIDE], scale[WIDE], shift[WIDE], sum[WIDE], product[WIDE];
};

/* Where a ReLU was open, of rows that were fetched: y's or as bits. */
struct gates {
    struct packed y[AHEAD_BACK];
    unsigned open[AHEAD_BACK];
};

DEVICE void fetch_gates(const struct columns *s, enum walk walk, const void *y, const uint8_t *open, size_t row,
                        int many, int c, enum element type, int width, struct gates *gates)
{
    if (open)
        for (int r = 0; r < many; r++)
            gates->open[r] = open[(row_at(s, walk, row + r * row_step(s, walk)) * s->c + c) / WIDE];
    else
        fetch_rows(s, walk, y, row, many, c, type, width, gates->y);
}

/* g of the r-th of them, but 0 where it was shut. */
DEVICE void shut(const struct gates *gates, bool bits, int r, int c, enum element type, int width, float *g)
{
    float y[WIDE];
    if (bits) {
        unsigned open = gates->open[r] >> c % WIDE;
        for (int k = 0; k < width; k++)
            g[k] = open >> k & 1 ? g[k] : 0;
    } else {
        unpack(&gates->y[r], type, width, y);
        for (int k = 0; k < width; k++)
            g[k] = y[k] > 0 ? g[k] : 0;
    }
}

DEVICE size_t add_sums(const struct sums *a, size_t row, int many, int c, enum element type, int width, enum gate gate,
                       struct sums_kept *kept)
{
    struct packed x[AHEAD_BACK], dy[AHEAD_BACK], more[AHEAD_BACK] = { 0 };
    struct gates gates = { 0 };
    float v[WIDE], g[WIDE], other[WIDE];
    bool shuts = gate == BY_Y && (a->y || a->open), adds = gate == BY_Y && a->more;
    fetch_rows(&a->s, UP, a->x, row, many, c, type, width, x);
    fetch_rows(&a->s, UP, a->dy, row, many, c, type, width, dy);
    if (shuts)
        fetch_gates(&a->s, UP, a->y, a->open, row, many, c, type, width, &gates);
    if (adds)
        fetch_rows(&a->s, UP, a->more, row, many, c, type, width, more);
    for (int r = 0; r < many; r++) {
        unpack(&x[r], type, width, v);
        unpack(&dy[r], type, width, g);
        if (adds) {
            unpack(&more[r], type, width, other);
            for (int k = 0; k < width; k++)
                g[k] += other[k];
        }
        if (shuts)
            shut(&gates, a->open, r, c, type, width, g);
        for (int k = 0; k < width; k++) {
            v[k] -= kept->mean[k];
            if (gate == BY_X)
                g[k] = normalized(v[k], kept->scale[k], kept->shift[k]) > 0 ? g[k] : 0;
            kept->sum[k] += g[k];
            kept->product[k] += g[k] * v[k];
        }
        if (gate == BY_Y && a->g)
            store(a->g, row_at(&a->s, UP, row + r * row_step(&a->s, UP)) * a->s.c + c, type, width, g);
    }
    return row + many * row_step(&a->s, UP);
}

DEVICE void sums(const struct sums *a, enum element type, int width, enum gate gate)
{
    SHARED(float, shared, WIDE *THREADS);
    const int ahead = ahead_of(AHEAD_BACK, type);
    int c = column_of(&a->s, width);
    size_t row = c < a->s.c ? first_row(&a->s, UP) : a->s.rows;
    struct sums_kept kept = { 0 };
    if (c < a->s.c) {
        load(a->saved, c, F32, width, kept.mean);
        load(a->saved, 2 * a->s.c + c, F32, width, kept.scale);
        load(a->saved, 3 * a->s.c + c, F32, width, kept.shift);
    }
    while (rows_there(&a->s, UP, row, ahead))
        row = add_sums(a, row, ahead, c, type, width, gate, &kept);
    while (row < end_row(&a->s, UP))
        row = add_sums(a, row, 1, c, type, width, gate, &kept);
    leave_sums(&a->s, c, width, kept.sum, kept.product, a->partials, shared);
}
GATED_KERNELS(SUMS_AT_ONCE, SUMS_AT_ONCE, BY_Y_AT_ONCE, sums, sums)

DEVICE void joined(const struct joined *a, enum element type, int width)
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
        a->saved[3 * a->c + c] = (float)(a->beta[c] -
                                         (mean - (float)mean) * inverse * a->gamma[c]); /* the mean's rest */
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
KERNELS(joined, joined)

int norm_moments(const struct queue *q, const struct norm_shape *shape, const void *x)
{
    int width = column_width(shape->c, aligned16(x));
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, AHEAD, MOMENTS_AT_ONCE, true);
    struct moments a = { x, (float *)q->partials, grid.s };
    RUN_TYPED(moments, q->type, width, grid.x, grid.y, q, a);
    return grid.x;
}

static int run_sums(const struct queue *q, const struct norm_shape *shape, enum gate gate, struct sums *a)
{
    int width = column_width(shape->c, aligned16(a->x) && aligned16(a->y) && aligned16(a->dy) && aligned16(a->more) &&
                                           aligned16(a->g) && aligned16(a->saved));
    int at_once = gate == BY_Y ? BY_Y_AT_ONCE : SUMS_AT_ONCE;
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, AHEAD_BACK, at_once, true);
    a->partials = (float *)q->partials;
    a->s = grid.s;
    RUN_GATED(sums, gate, q->type, width, grid.x, grid.y, q, *a);
    return grid.x;
}

void norm_join(const struct queue *q, const struct joined *a)
{
    RUN_TYPED(joined, q->type, 1, (a->c + CHANNELS - 1) / CHANNELS, 1, q, *a);
}

/* y = gamma (x - mean) inverse + beta, + add, then ReLU. bf16: 4 to 6 bytes, 4 flops an element; 90%. */
struct affine {
    const void *x, *add;
    void *y;
    const float *gamma, *beta, *mean;
    const float *variance; /* NULL: gamma is the scale and beta the shift */
    bool relu;
    uint8_t *open; /* not NULL: width is 8 */
    struct columns s;
};

DEVICE size_t write_affine(const struct affine *a, size_t row, int many, int c, enum element type, int width,
                           const float *mean, const float *scale, const float *shift)
{
    struct packed x[AHEAD_AFFINE], add[AHEAD_AFFINE] = { 0 };
    float v[WIDE], other[WIDE];
    fetch_rows(&a->s, DOWN, a->x, row, many, c, type, width, x);
    if (a->add)
        fetch_rows(&a->s, DOWN, a->add, row, many, c, type, width, add);
    for (int r = 0; r < many; r++) {
        unpack(&x[r], type, width, v);
        for (int k = 0; k < width; k++)
            v[k] = normalized(v[k] - mean[k], scale[k], shift[k]);
        if (a->add) {
            unpack(&add[r], type, width, other);
            for (int k = 0; k < width; k++)
                v[k] += other[k];
        }
        for (int k = 0; k < width && a->relu; k++)
            v[k] = v[k] < 0 ? 0 : v[k]; /* NaN stays */
        size_t i = row_at(&a->s, DOWN, row + r * row_step(&a->s, DOWN)) * a->s.c + c;
        store(a->y, i, type, width, v);
        if (a->open) {
            unsigned open = 0;
            for (int k = 0; k < width; k++)
                open |= (unsigned)(v[k] > 0) << k;
            a->open[i / WIDE] = (uint8_t)open;
        }
    }
    return row + many * row_step(&a->s, DOWN);
}

DEVICE void affine(const struct affine *a, enum element type, int width)
{
    const int ahead = ahead_of(AHEAD_AFFINE, type);
    int c = column_of(&a->s, width);
    size_t row = first_row(&a->s, DOWN);
    float mean[WIDE], scale[WIDE], shift[WIDE];
    if (c >= a->s.c)
        return;
    load(a->mean, c, F32, width, mean);
    load(a->gamma, c, F32, width, scale);
    load(a->beta, c, F32, width, shift);
    for (int k = 0; k < width && a->variance; k++)
        scale[k] = (float)(scale[k] / sqrt((double)a->variance[c + k] + NORM_EPSILON));
    while (rows_there(&a->s, DOWN, row, ahead))
        row = write_affine(a, row, ahead, c, type, width, mean, scale, shift);
    while (row < end_row(&a->s, DOWN))
        row = write_affine(a, row, 1, c, type, width, mean, scale, shift);
}
KERNELS_AT_ONCE(AFFINE_AT_ONCE, affine, affine)

static void run_affine(const struct queue *q, const struct norm_shape *shape, struct affine *a)
{
    int width = column_width(shape->c, aligned16(a->x) && aligned16(a->y) && aligned16(a->add) && aligned16(a->mean) &&
                                           aligned16(a->gamma) && aligned16(a->beta));
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, AHEAD_AFFINE, AFFINE_AT_ONCE, false);
    assert(!a->open || width == WIDE);
    a->s = grid.s;
    a->relu = shape->relu;
    RUN_TYPED(affine, q->type, width, grid.x, grid.y, q, *a);
}

void kernel_norm_forward(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, const void *add, void *y, float *saved, float *moments, int parts)
{
    struct joined j = {
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
                        add && shape->relu ? shape->open : NULL,
                        { 0, 0, 0, 0 } };
    if (parts == 0) {
        j.parts = norm_moments(q, shape, x);
        j.origin = x;
    }
    norm_join(q, &j);
    run_affine(q, shape, &a);
}

void kernel_norm_inference(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y)
{
    struct affine a = { x, add, y, gamma, beta, running, running + shape->c, false, NULL, { 0, 0, 0, 0 } };
    run_affine(q, shape, &a);
}

/* dy = scale g + b (x - mean) + k, of a code nu times that where x is not 0, dadd [+]= g. bf16: 6 bytes, by y 2 more,
 * dadd 2 or 4 more, 5 to 7 flops an element; 90%. */
struct back {
    const void *x, *y; /* as of sums, and */
    const uint8_t *open;
    const void *g;   /* dy, or what sums wrote, then OPEN */
    void *dy, *dadd; /* dadd: BY_Y */
    const float *saved, *factors;
    float nu;              /* 0: x is no code */
    const float *nu_there; /* device, not NULL: nu is there */
    bool accumulate;       /* to dadd */
    struct columns s;
};

/* What a thread keeps of its channels. */
struct back_kept {
    float mean[WIDE], scale[WIDE], shift[WIDE], b[WIDE], k[WIDE], nu;
};

DEVICE size_t write_back(const struct back *a, size_t row, int many, int c, enum element type, int width,
                         enum gate gate, const struct back_kept *kept)
{
    struct packed x[AHEAD_BACK], dy[AHEAD_BACK], dadd[AHEAD_BACK] = { 0 };
    struct gates gates = { 0 };
    float v[WIDE], g[WIDE], other[WIDE];
    bool shuts = gate == BY_Y && (a->y || a->open);
    fetch_rows(&a->s, DOWN, a->g, row, many, c, type, width, dy);
    fetch_rows(&a->s, DOWN, a->x, row, many, c, type, width, x);
    if (shuts)
        fetch_gates(&a->s, DOWN, a->y, a->open, row, many, c, type, width, &gates);
    if (gate == BY_Y && a->accumulate)
        fetch_rows(&a->s, DOWN, a->dadd, row, many, c, type, width, dadd);
    for (int r = 0; r < many; r++) {
        size_t i = row_at(&a->s, DOWN, row + r * row_step(&a->s, DOWN)) * a->s.c + c;
        unpack(&dy[r], type, width, g);
        if (shuts)
            shut(&gates, a->open, r, c, type, width, g);
        if (gate == BY_Y) {
            unpack(&dadd[r], type, width, other);
            for (int k = 0; k < width; k++)
                other[k] += g[k];
            store(a->dadd, i, type, width, other);
        }
        unpack(&x[r], type, width, v);
        for (int k = 0; k < width; k++) {
            float centred = v[k] - kept->mean[k];
            if (gate == BY_X)
                g[k] = normalized(centred, kept->scale[k], kept->shift[k]) > 0 ? g[k] : 0;
            g[k] = kept->scale[k] * g[k] + kept->b[k] * centred + kept->k[k];
            g[k] = kept->nu == 0 ? g[k] : v[k] != 0 ? kept->nu * g[k] : 0;
        }
        store(a->dy, i, type, width, g);
    }
    return row + many * row_step(&a->s, DOWN);
}

DEVICE void back(const struct back *a, enum element type, int width, enum gate gate)
{
    const int ahead = ahead_of(AHEAD_BACK, type);
    int c = column_of(&a->s, width);
    size_t row = first_row(&a->s, DOWN);
    struct back_kept kept;
    if (c >= a->s.c)
        return;
    kept.nu = a->nu_there ? *a->nu_there : a->nu;
    load(a->saved, c, F32, width, kept.mean); /* not joined with k, where it would cancel */
    load(a->saved, 2 * a->s.c + c, F32, width, kept.scale);
    load(a->saved, 3 * a->s.c + c, F32, width, kept.shift);
    load(a->factors, c, F32, width, kept.b);
    load(a->factors, a->s.c + c, F32, width, kept.k);
    while (rows_there(&a->s, DOWN, row, ahead))
        row = write_back(a, row, ahead, c, type, width, gate, &kept);
    while (row < end_row(&a->s, DOWN))
        row = write_back(a, row, 1, c, type, width, gate, &kept);
}
GATED_KERNELS(BACK_AT_ONCE, BACK_BY_X_AT_ONCE, BY_Y_AT_ONCE, back, back)

void kernel_norm_backward(const struct queue *q, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                          const void *more, const float *gamma, const float *saved, void *dadd, bool accumulate,
                          float *dgamma, float *dbeta)
{
    /* Without add, y > 0 where its x says so, and y need not be read. (Too small for bf16, it is 0 and yet open here.)
     */
    enum gate gate = dadd ? BY_Y : shape->relu ? BY_X : OPEN;
    const uint8_t *open = dadd && shape->relu ? shape->open : NULL;
    const void *shuts = dadd && shape->relu && !open ? y : NULL;
    /* Then dadd is g, which the second pass need not make again. */
    void *masked = gate == BY_Y && shape->relu && !accumulate ? dadd : NULL;
    if (more && !masked) {
        kernel_blend(q, 1, dy, 1, more, dy, shape->rows * shape->c);
        more = NULL;
    }
    int width = column_width(shape->c,
                             aligned16(x) && aligned16(shuts) && aligned16(dy) && aligned16(dadd) && aligned16(saved));
    struct column_grid grid = column_grid(q, shape->rows, shape->c, width, AHEAD_BACK, BACK_AT_ONCE, false);
    struct sums s = { x, shuts, dy, open, more, saved, masked, NULL, { 0, 0, 0, 0 } };
    int parts = run_sums(q, shape, gate, &s);
    struct joined j = { (const float *)q->partials,
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
    struct back a = { x,
                      shuts,
                      open,
                      masked ? masked : dy,
                      dy,
                      dadd,
                      saved,
                      norm_factors(q),
                      shape->code_nu,
                      shape->code_number,
                      dadd && accumulate,
                      grid.s };
    norm_join(q, &j);
    RUN_GATED(back, masked ? OPEN : gate, q->type, width, grid.x, grid.y, q, a);
}
