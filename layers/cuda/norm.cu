/* norm.cu - batch norm over rows = N*H*W of x (rows, C); formulas in layers/ref/norm.c.
 * Sums are partial sums of float per block, joined in double. */
#include "layers/cuda/kernel.h"
#include "layers/ref/ref.h" /* NORM_EPSILON */

enum { CHANNELS = 32, JOINED = THREADS / CHANNELS }; /* joining: a block's channels, and threads for each */

static float *coefficients(const struct queue *q) /* (3, C) */
{
    return (float *)q->partials + (size_t)KERNELS_MOST_BLOCKS * 2 * 256;
}

/* Forward and, where a ReLU shut this off, backward, which must find the same sign: so no compiler is free to leave out
 * the rounding between product and sum in one of them. */
DEVICE float normalized(float centred, float scale, float shift)
{
    return rounded_product(centred, scale) + shift;
}

/* Sums per channel: forward of x - origin and its square, backward of g and g (x - mean), where g is dy, but 0 where a
 * ReLU was shut. bf16: 2 bytes forward, 4 (by x), 6 (by y) or 8 (g written) backward, 3 to 7 flops an element; 90%. */
struct sums {
    const void *x, *y, *dy; /* y, not NULL: tells where the ReLU was open; dy NULL: forward */
    const float *mean;      /* backward */
    const float *affine;    /* (2, c), not NULL: scale and shift, by which x tells where the ReLU was open */
    void *g;                /* not NULL: g goes there, for the next pass */
    float *partials;        /* (blocks, 2, c) */
    struct columns s;
};

DEVICE void sums(const struct sums *a, enum element type, int width)
{
    SHARED(float, shared, WIDE *THREADS);
    int c = column_of(&a->s, width);
    float x[WIDE], g[WIDE], other[WIDE], origin[WIDE], scale[WIDE], shift[WIDE], sum[WIDE], product[WIDE];
    for (int k = 0; k < width; k++)
        sum[k] = product[k] = origin[k] = scale[k] = shift[k] = 0;
    for (int k = 0; k < width && c < a->s.c && a->affine; k++) {
        scale[k] = a->affine[c + k];
        shift[k] = a->affine[a->s.c + c + k];
    }
    if (c < a->s.c && a->dy)
        for (int k = 0; k < width; k++)
            origin[k] = a->mean[c + k];
    else if (c < a->s.c)
        load(a->x, c, type, width, origin);
    for (size_t row = first_row(&a->s); c < a->s.c && row < a->s.rows; row += row_step(&a->s)) {
        size_t i = row * a->s.c + c;
        load(a->x, i, type, width, x);
        if (a->dy) {
            load(a->dy, i, type, width, g);
            if (a->affine) {
                for (int k = 0; k < width; k++)
                    g[k] = normalized(x[k] - origin[k], scale[k], shift[k]) > 0 ? g[k] : 0;
            } else if (a->y) {
                load(a->y, i, type, width, other);
                for (int k = 0; k < width; k++)
                    g[k] = other[k] > 0 ? g[k] : 0;
            }
            if (a->g)
                store(a->g, i, type, width, g);
        } else {
            for (int k = 0; k < width; k++)
                g[k] = x[k] - origin[k];
        }
        for (int k = 0; k < width; k++) {
            sum[k] += g[k];
            product[k] += g[k] * (x[k] - origin[k]);
        }
    }
    column_sum(&a->s, width, sum, shared);
    column_sum(&a->s, width, product, shared);
    for (int k = 0; k < width && c < a->s.c && threadIdx.x < (unsigned)a->s.across; k++) {
        float *to = a->partials + (size_t)blockIdx.x * 2 * a->s.c + c + k;
        to[0] = sum[k];
        to[a->s.c] = product[k];
    }
}
KERNELS(sums, sums)

/* Joins partial sums: a few kilobytes. Forward: mean, inverse standard deviation, moments. Backward: gradients of
 * gamma and beta, and a, b, k of the next pass, dx = a (g + b (x - mean) + k). */
struct joined {
    const float *partials;
    int parts, c;
    size_t rows;
    const void *origin; /* forward: the first row of x; NULL: sums are from 0 */
    float *saved;       /* (NORM_SAVED, c): written forward, read backward */
    float *moments;     /* forward; NULL: backward */
    const float *gamma, *beta;
    float *dgamma, *dbeta;
    float *factors;     /* (3, c), backward: a, b, k */
};

DEVICE void joined(const struct joined *a, enum element type, int width)
{
    SHARED(double, shared, 2 * THREADS);
    int channel = threadIdx.x % CHANNELS, lane = threadIdx.x / CHANNELS, c = (int)blockIdx.x * CHANNELS + channel;
    double sum = 0, product = 0, rows = (double)a->rows;
    (void)width;
    for (int part = lane; c < a->c && part < a->parts; part += JOINED) {
        sum += a->partials[(size_t)part * 2 * a->c + c];
        product += a->partials[(size_t)part * 2 * a->c + a->c + c];
    }
    shared[threadIdx.x] = sum;
    shared[THREADS + threadIdx.x] = product;
    __syncthreads();
    if (lane > 0 || c >= a->c)
        return;
    for (int i = 1; i < JOINED; i++) {
        sum += shared[i * CHANNELS + channel];
        product += shared[THREADS + i * CHANNELS + channel];
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
        a->saved[3 * a->c + c] = (float)(a->beta[c] - (mean - (float)mean) * inverse * a->gamma[c]); /* the mean's rest */
        a->moments[c] += (float)mean;
        a->moments[a->c + c] += (float)(variance * rows / (rows > 1 ? rows - 1 : 1));
    } else {
        double inverse = a->saved[a->c + c];
        product *= inverse;
        a->dgamma[c] += (float)product;
        a->dbeta[c] += (float)sum;
        a->factors[c] = (float)(a->gamma[c] * inverse);
        a->factors[a->c + c] = (float)(-inverse * product / rows);
        a->factors[2 * a->c + c] = (float)(-sum / rows);
    }
}
KERNELS(joined, joined)

static int run_sums(const struct queue *q, const struct norm_shape *shape, struct sums *a)
{
    int width = column_width(shape->c, aligned16(a->x) && aligned16(a->y) && aligned16(a->dy) && aligned16(a->g));
    struct column_grid grid = column_grid(shape->rows, shape->c, width, 16);
    a->partials = (float *)q->partials;
    a->s = grid.s;
    RUN_TYPED(sums, q->type, width, grid.x, grid.y, q, *a);
    return grid.x;
}

static void run_joined(const struct queue *q, const struct joined *a)
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
    struct columns s;
};

DEVICE void affine(const struct affine *a, enum element type, int width)
{
    int c = column_of(&a->s, width);
    float v[WIDE], other[WIDE], mean[WIDE], scale[WIDE], shift[WIDE];
    if (c >= a->s.c)
        return;
    for (int k = 0; k < width; k++) {
        mean[k] = a->mean[c + k];
        scale[k] = a->gamma[c + k];
        if (a->variance)
            scale[k] = (float)(scale[k] / sqrt((double)a->variance[c + k] + NORM_EPSILON));
        shift[k] = a->beta[c + k];
    }
    for (size_t row = first_row(&a->s); row < a->s.rows; row += row_step(&a->s)) {
        size_t i = row * a->s.c + c;
        load(a->x, i, type, width, v);
        for (int k = 0; k < width; k++)
            v[k] = normalized(v[k] - mean[k], scale[k], shift[k]);
        if (a->add) {
            load(a->add, i, type, width, other);
            for (int k = 0; k < width; k++)
                v[k] += other[k];
        }
        if (a->relu)
            for (int k = 0; k < width; k++)
                v[k] = v[k] < 0 ? 0 : v[k]; /* NaN stays */
        store(a->y, i, type, width, v);
    }
}
KERNELS(affine, affine)

static void run_affine(const struct queue *q, const struct norm_shape *shape, struct affine *a)
{
    int width = column_width(shape->c, aligned16(a->x) && aligned16(a->y) && aligned16(a->add));
    struct column_grid grid = column_grid(shape->rows, shape->c, width, 4);
    a->s = grid.s;
    a->relu = shape->relu;
    RUN_TYPED(affine, q->type, width, grid.x, grid.y, q, *a);
}

void kernel_norm_forward(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, const void *add, void *y, float *saved, float *moments, int parts)
{
    struct joined j = { (const float *)q->partials, parts, shape->c, shape->rows, NULL, saved, moments,
                        gamma, beta, NULL, NULL, NULL };
    struct affine a = { x, add, y, saved + 2 * shape->c, saved + 3 * shape->c, saved, NULL, false, { 0, 0, 0 } };
    if (parts == 0) {
        struct sums s = { x, NULL, NULL, NULL, NULL, NULL, NULL, { 0, 0, 0 } };
        j.parts = run_sums(q, shape, &s);
        j.origin = x;
    }
    run_joined(q, &j);
    run_affine(q, shape, &a);
}

void kernel_norm_inference(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y)
{
    struct affine a = { x, add, y, gamma, beta, running, running + shape->c, false, { 0, 0, 0 } };
    run_affine(q, shape, &a);
}

/* dy = a (g + b (x - mean) + k), of a code nu times that where x is not 0, dadd [+]= g. bf16: 6 bytes, by y 2 more, dadd 2
 * or 4 more, 5 to 7 flops an element; 90%. */
struct back {
    const void *x, *y; /* as of sums */
    const void *g;     /* dy, or what sums wrote, then with neither y nor dadd here */
    void *dy, *dadd;
    const float *mean, *affine, *abk;
    float nu; /* 0: x is no code */
    const float *nu_there; /* device, not NULL: nu is there */
    bool accumulate;
    struct columns s;
};

DEVICE void back(const struct back *a, enum element type, int width)
{
    int c = column_of(&a->s, width);
    float x[WIDE], g[WIDE], other[WIDE], p[WIDE], q[WIDE], r[WIDE], mean[WIDE], scale[WIDE], shift[WIDE];
    if (c >= a->s.c)
        return;
    float nu = a->nu_there ? *a->nu_there : a->nu;
    for (int k = 0; k < width; k++) { /* a b x + (k - b mean) a, but for the cancellation: mean stays apart */
        p[k] = a->abk[c + k];
        q[k] = a->abk[a->s.c + c + k];
        r[k] = a->abk[2 * a->s.c + c + k];
        mean[k] = a->mean[c + k];
        scale[k] = a->affine ? a->affine[c + k] : 0;
        shift[k] = a->affine ? a->affine[a->s.c + c + k] : 1;
    }
    for (size_t row = first_row(&a->s); row < a->s.rows; row += row_step(&a->s)) {
        size_t i = row * a->s.c + c;
        load(a->g, i, type, width, g);
        load(a->x, i, type, width, x);
        if (a->affine) {
            for (int k = 0; k < width; k++)
                g[k] = normalized(x[k] - mean[k], scale[k], shift[k]) > 0 ? g[k] : 0;
        } else if (a->y) {
            load(a->y, i, type, width, other);
            for (int k = 0; k < width; k++)
                g[k] = other[k] > 0 ? g[k] : 0;
        }
        if (a->dadd) {
            for (int k = 0; k < width; k++)
                other[k] = 0;
            if (a->accumulate)
                load(a->dadd, i, type, width, other);
            for (int k = 0; k < width; k++)
                other[k] += g[k];
            store(a->dadd, i, type, width, other);
        }
        for (int k = 0; k < width; k++) {
            g[k] = p[k] * (g[k] + q[k] * (x[k] - mean[k]) + r[k]);
            g[k] = nu == 0 ? g[k] : x[k] != 0 ? nu * g[k] : 0;
        }
        store(a->dy, i, type, width, g);
    }
}
KERNELS(back, back)

void kernel_norm_backward(const struct queue *q, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                          const float *gamma, const float *saved, void *dadd, bool accumulate, float *dgamma,
                          float *dbeta)
{
    /* Without add, y > 0 where its x says so, and y need not be read. (Too small for bf16, it is 0 and yet open here.) */
    const float *affine = shape->relu && !dadd ? saved + 2 * shape->c : NULL;
    const void *gate = shape->relu && dadd ? y : NULL;
    void *masked = gate && !accumulate ? dadd : NULL; /* then dadd is g, which the second pass need not make again */
    int width = column_width(shape->c, aligned16(x) && aligned16(gate) && aligned16(dy) && aligned16(dadd));
    struct column_grid grid = column_grid(shape->rows, shape->c, width, 4);
    struct sums s = { x, gate, dy, saved, affine, masked, NULL, { 0, 0, 0 } };
    int parts = run_sums(q, shape, &s);
    struct joined j = { (const float *)q->partials, parts, shape->c, shape->rows, NULL, (float *)saved, NULL,
                        gamma, NULL, dgamma, dbeta, coefficients(q) };
    struct back a = { x, masked ? NULL : gate, masked ? masked : dy, dy, masked ? NULL : dadd, saved, affine,
                      coefficients(q), shape->code_nu, shape->code_number, accumulate, grid.s };
    run_joined(q, &j);
    RUN_TYPED(back, q->type, width, grid.x, grid.y, q, a);
}
