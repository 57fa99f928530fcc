/* reduce.cu - sums of products in double, and the end of a power iteration, all on the device. */
#include "layers/backend/cuda/kernels/kernel.h"

enum { MAX_PARTS = 512 };
#define STEP_SAFETY 0.9 /* eta = 0.9 / lambda_max, as published */

/* Partial sums of up to three products. Cost: 4 (bf16) or 8 bytes, 2 flops in double; 90% of the bandwidth on GPUs
 * whose doubles run at half the speed of floats. */
struct products {
    const void *x[3], *y[3];
    size_t count[3];
    double *parts; /* (3, blocks) */
};

DEVICE void products(const struct products *a, enum element type, int width)
{
    SHARED(double, sums, THREADS / WARP);
    const void *px = a->x[0], *py = a->y[0];
    size_t count = a->count[0], step = (size_t)gridDim.x * THREADS * VECTOR;
    if (blockIdx.y == 1)
        px = a->x[1], py = a->y[1], count = a->count[1];
    if (blockIdx.y == 2)
        px = a->x[2], py = a->y[2], count = a->count[2];
    float x[VECTOR], y[VECTOR];
    double sum = 0;
    for (size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * VECTOR; i < count; i += step) {
        load_flat(px, i, count, type, width, x);
        load_flat(py, i, count, type, width, y);
        for (int k = 0; k < VECTOR; k++)
            sum += (double)x[k] * y[k];
    }
    sum = block_sum(sum, sums);
    if (threadIdx.x == 0)
        a->parts[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}
KERNELS(products, products)

static int run_products(const struct queue *q, enum element type, const struct products *a, int count)
{
    size_t longest = 0, blocks;
    bool wide = true;
    for (int i = 0; i < count; i++) {
        longest = a->count[i] > longest ? a->count[i] : longest;
        wide &= aligned16(a->x[i]) && aligned16(a->y[i]);
    }
    blocks = blocks_for((longest + VECTOR - 1) / VECTOR);
    if (blocks > MAX_PARTS)
        blocks = MAX_PARTS;
    if (blocks < 1)
        blocks = 1;
    RUN_TYPED(products, type, wide ? VECTOR : 1, blocks, count, q, *a);
    return (int)blocks;
}

/* Sums a row of parts in one block; for a power iteration all three rows, and computes what follows from them. */
struct total {
    const double *parts;
    int blocks;
    double *result; /* the sum, or lambda_max */
    double *scale;  /* 1 / |image|; NULL: a single sum */
};

DEVICE double total_of(const double *parts, int blocks, double *sums)
{
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += THREADS)
        sum += parts[i];
    __syncthreads();
    return block_sum(sum, sums);
}

DEVICE void total(const struct total *a)
{
    SHARED(double, sums, THREADS / WARP);
    double first = total_of(a->parts, a->blocks, sums);
    if (!a->scale) {
        if (threadIdx.x == 0)
            a->result[0] = first;
        return;
    }
    double v = total_of(a->parts + a->blocks, a->blocks, sums);
    double image = total_of(a->parts + 2 * a->blocks, a->blocks, sums);
    if (threadIdx.x == 0) {
        a->result[0] = first / v;
        a->scale[0] = 1 / fmax(sqrt(image), 1e-30);
    }
}
KERNEL(totals, total, total(&a))

void kernel_dot(const struct queue *q, enum element type, const void *x, const void *y, size_t count, double *result)
{
    struct products p = { { x, NULL, NULL }, { y, NULL, NULL }, { count, 0, 0 }, (double *)q->partials };
    struct total t = { p.parts, run_products(q, type, &p, 1), result, NULL };
    RUN(totals, 1, 1, q, t);
}

/* v = scale image. Cost: 8 bytes, 1 flop; 90% of the bandwidth, or the latency of a launch. */
struct scaled {
    const float *image;
    float *v;
    const double *scale;
    size_t count;
};

DEVICE void scaled(const struct scaled *a)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < a->count)
        a->v[i] = (float)*a->scale * a->image[i];
}
KERNEL(scaled_all, scaled, scaled(&a))

void kernel_power(const struct queue *q, const float *code, size_t codes, const float *from, const float *image,
                  size_t pixels, float *v, double *lambda_max)
{
    double *parts = (double *)q->partials, *scale = parts + 3 * MAX_PARTS;
    struct products p = { { code, from, image }, { code, from, image }, { codes, pixels, pixels }, parts };
    struct total t = { parts, run_products(q, F32, &p, 3), lambda_max, scale };
    struct scaled s = { image, v, scale, pixels };
    RUN(totals, 1, 1, q, t);
    RUN(scaled_all, blocks_for(pixels), 1, q, s);
}

/* The scalars that follow from step sizes. Cost: the latency of a launch. */
struct steps {
    const double *lambda_max;
    int count;
    float lambda, mu;
    float *scalars; /* (count, STEP_SCALARS) */
};

DEVICE void steps(const struct steps *a)
{
    int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= a->count)
        return;
    float eta = (float)(STEP_SAFETY / fmax(a->lambda_max[i], 1e-30)), nu = 1 / (1 + rounded_product(a->mu, eta));
    float *to = a->scalars + i * STEP_SCALARS;
    to[0] = eta, to[1] = nu, to[2] = a->lambda * eta * nu;
    to[3] = -eta, to[4] = nu, to[5] = 0;
    to[6] = eta * nu;
}
KERNEL(step_scalars_all, steps, steps(&a))

void kernel_step_scalars(const struct queue *q, const double *lambda_max, int count, float lambda, float mu,
                         float *scalars)
{
    struct steps s = { lambda_max, count, lambda, mu, scalars };
    if (count > 0)
        RUN(step_scalars_all, blocks_for(count), 1, q, s);
}
