/* head.cu - the classifier and the loss, in float: x (N,C), w (K,C), logits (N,K). They are small beside the
 * convolutions. */
#include "layers/backend/cuda/kernels/kernel.h"

struct linear {
    int n, c, k;
    const float *x, *w, *b, *dy;
    float *y, *dx, *dw, *db;
};

DEVICE float warp_sum(float v)
{
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2)
        v += shuffle_xor(v, lanes);
    return v;
}

/* y = x w^T + b, a warp for each output. Cost: 8 bytes (mostly from the cache) and 2 flops for each product; bound
 * by the cache. */
DEVICE void forward_linear(const struct linear *a)
{
    size_t out = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    float sum = 0;
    if (out >= (size_t)a->n * a->k)
        return;
    const float *x = a->x + out / a->k * a->c, *w = a->w + out % a->k * a->c;
    for (int j = threadIdx.x % WARP; j < a->c; j += WARP)
        sum += x[j] * w[j];
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0)
        a->y[out] = sum + a->b[out % a->k];
}
KERNEL(forward_linear_all, linear, forward_linear(&a))

/* dw += dy^T x, a thread for each weight; reads of x are coalesced. Bound by the cache. */
DEVICE void weight_gradient(const struct linear *a)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (size_t)a->k * a->c)
        return;
    int k = (int)(at / a->c), c = (int)(at % a->c);
    float sum = 0;
    for (int i = 0; i < a->n; i++)
        sum += a->dy[(size_t)i * a->k + k] * a->x[(size_t)i * a->c + c];
    a->dw[at] += sum;
}
KERNEL(weight_gradient_all, linear, weight_gradient(&a))

/* dx = dy w, a thread for each element; reads of w are coalesced. Bound by the cache. */
DEVICE void input_gradient(const struct linear *a)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    float sum = 0;
    if (at >= (size_t)a->n * a->c)
        return;
    for (int k = 0; k < a->k; k++)
        sum += a->dy[at / a->c * a->k + k] * a->w[(size_t)k * a->c + at % a->c];
    a->dx[at] = sum;
}
KERNEL(input_gradient_all, linear, input_gradient(&a))

/* y = b in every row. Cost: 4 bytes. */
DEVICE void broadcast_bias(const struct linear *a)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at < (size_t)a->n * a->k)
        a->y[at] = a->b[at % a->k];
}
KERNEL(broadcast_bias_all, linear, broadcast_bias(&a))

/* db += the sum of dy's rows. A block has COLUMNS columns and sums its threads' rows in a fixed order. Cost: 4
 * bytes, 1 flop. */
enum { COLUMNS = 32, ROWS = THREADS / COLUMNS };

DEVICE void bias_gradient(const struct linear *a)
{
    SHARED(float, shared, THREADS);
    int k = (int)blockIdx.x * COLUMNS + threadIdx.x % COLUMNS, row = threadIdx.x / COLUMNS;
    float sum = 0;
    for (int i = row; k < a->k && i < a->n; i += ROWS)
        sum += a->dy[(size_t)i * a->k + k];
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (row > 0 || k >= a->k)
        return;
    for (int i = 1; i < ROWS; i++)
        sum += shared[i * COLUMNS + threadIdx.x];
    a->db[k] += sum;
}
KERNEL(bias_gradient_all, linear, bias_gradient(&a))

void kernel_linear_forward(const struct queue *q, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y)
{
    struct linear a = { n, c, k, x, w, b, NULL, y, NULL, NULL, NULL };
    RUN(forward_linear_all, blocks_for((size_t)n * k * WARP), 1, q, a);
}

void kernel_linear_input_gradient(const struct queue *q, int n, int c, int k, const float *w, const float *dy,
                                  float *dx)
{
    struct linear a = { n, c, k, NULL, w, NULL, dy, NULL, dx, NULL, NULL };
    RUN(input_gradient_all, blocks_for((size_t)n * c), 1, q, a);
}

void kernel_linear_weight_gradient(const struct queue *q, int n, int c, int k, const float *x, const float *dy,
                                   float *dw)
{
    struct linear a = { n, c, k, x, NULL, NULL, dy, NULL, NULL, dw, NULL };
    RUN(weight_gradient_all, blocks_for((size_t)k * c), 1, q, a);
}

void kernel_broadcast_bias(const struct queue *q, int n, int k, const float *b, float *y)
{
    struct linear a = { n, 0, k, NULL, NULL, b, NULL, y, NULL, NULL, NULL };
    RUN(broadcast_bias_all, blocks_for((size_t)n * k), 1, q, a);
}

void kernel_bias_gradient(const struct queue *q, int n, int k, const float *dy, float *db)
{
    struct linear a = { n, 0, k, NULL, NULL, NULL, dy, NULL, NULL, NULL, db };
    RUN(bias_gradient_all, (k + COLUMNS - 1) / COLUMNS, 1, q, a);
}

/* Softmax cross-entropy with label smoothing, a warp for each image. Cost: each logit is read three times (twice
 * from the cache) and written once, about 10 flops; too small to fill the memory's bandwidth. */
struct loss {
    int n, k;
    const float *logits;
    const int32_t *labels;
    float smoothing, scale;
    float *losses, *dlogits;
};

DEVICE void loss(const struct loss *a)
{
    size_t image = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    int lane = threadIdx.x % WARP;
    if (image >= (size_t)a->n)
        return;
    const float *row = a->logits + image * a->k;
    int32_t label = a->labels[image];
    float top = row[0], sum = 0, mean = 0;
    for (int j = lane; j < a->k; j += WARP)
        top = fmaxf(top, row[j]);
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2)
        top = fmaxf(top, shuffle_xor(top, lanes));
    for (int j = lane; j < a->k; j += WARP) {
        sum += expf(row[j] - top);
        mean += (row[j] - top) / (float)a->k;
    }
    sum = warp_sum(sum);
    mean = warp_sum(mean);
    float log_sum = logf(sum); /* minus top */
    if (lane == 0)
        a->losses[image] = label < 0
                               ? 0
                               : (1 - a->smoothing) * (log_sum - (row[label] - top)) + a->smoothing * (log_sum - mean);
    for (int j = lane; a->dlogits && j < a->k; j += WARP) {
        float target = (j == label ? 1 - a->smoothing : 0) + a->smoothing / (float)a->k;
        a->dlogits[image * a->k + j] = label < 0 ? 0 : a->scale * (expf(row[j] - top - log_sum) - target);
    }
}
KERNEL(loss_all, loss, loss(&a))

/* The mean of n losses, in one block. Cost: 8 bytes, 2 flops; the latency of a launch. */
struct mean_loss {
    int n;
    const float *losses;
    const int32_t *labels;
    float *mean;
};

DEVICE void mean_loss(const struct mean_loss *a)
{
    SHARED(double, sums, THREADS / WARP);
    double sum = 0, counted = 0;
    for (int i = threadIdx.x; i < a->n; i += THREADS) {
        sum += a->losses[i];
        counted += a->labels[i] >= 0 ? 1 : 0;
    }
    sum = block_sum(sum, sums);
    __syncthreads();
    counted = block_sum(counted, sums);
    if (threadIdx.x == 0)
        *a->mean = (float)(sum / fmax(counted, 1.0));
}
KERNEL(mean_loss_all, mean_loss, mean_loss(&a))

void kernel_cross_entropy(const struct queue *q, int n, int k, const float *logits, const int32_t *labels,
                          float smoothing, float scale, float *losses, float *mean, float *dlogits)
{
    struct loss a = { n, k, logits, labels, smoothing, scale, losses, dlogits };
    struct mean_loss m = { n, losses, labels, mean };
    RUN(loss_all, blocks_for((size_t)n * WARP), 1, q, a);
    if (mean)
        RUN(mean_loss_all, 1, 1, q, m);
}
