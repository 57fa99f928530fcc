/* optimizer.cu - SGD as torch.optim.SGD, and atoms to unit norm. */
#include "layers/cuda/kernel.h"

/* The new weight; *v is replaced. */
DEVICE float step_one(const struct sgd *sgd, float decay, float w, float g, float *v)
{
    float step = sgd->scale * g + decay * w;
    *v = sgd->first ? step : sgd->momentum * *v + step;
    return w - sgd->lr * (sgd->nesterov ? step + sgd->momentum * *v : *v);
}

/* All tensors at once, and atoms are projected before they are written: a block per row, new atoms wait in shared
 * memory for their norm. 20 bytes, 9 flops an element; 80% of the bandwidth. */
struct row_update {
    struct sgd sgd;
    float *w, *v;
    const float *g;
    const struct sgd_row *rows;
};

DEVICE void update_row(const struct row_update *a)
{
    SHARED(double, sums, THREADS / WARP + 1);
    SHARED(float, atom, KERNELS_ATOM_MOST);
    const struct sgd_row row = a->rows[blockIdx.x];
    float *w = a->w + row.offset, *v = a->v + row.offset;
    const float *g = a->g + row.offset;
    bool waits = row.atom && row.length <= KERNELS_ATOM_MOST;
    double square = 0;
    float decay = row.decays ? a->sgd.weight_decay : 0;
    for (int i = threadIdx.x; i < row.length; i += THREADS) {
        float speed = v[i], next = step_one(&a->sgd, decay, w[i], g[i], &speed);
        v[i] = speed;
        if (waits)
            atom[i] = next;
        else
            w[i] = next;
        square += (double)next * next;
    }
    if (!row.atom)
        return;
    square = block_sum(square, sums);
    if (threadIdx.x == 0)
        sums[THREADS / WARP] = 1 / fmax(sqrt(square), 1e-12);
    __syncthreads();
    float scale = (float)sums[THREADS / WARP];
    for (int i = threadIdx.x; i < row.length; i += THREADS)
        w[i] = scale * (waits ? atom[i] : w[i]);
}
KERNEL(update_rows, row_update, update_row(&a))

void kernel_sgd(const struct queue *q, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count)
{
    struct row_update a = { *sgd, w, v, g, rows };
    if (count > 0)
        RUN(update_rows, count, 1, q, a);
}

/* A block per row, read twice, the second time from the cache: 8 bytes, 3 flops an element; 70% of the bandwidth. */
struct rows {
    float *w;
    size_t length;
};

DEVICE void normalize_row(const struct rows *a)
{
    SHARED(double, sums, THREADS / WARP + 1);
    float *row = a->w + blockIdx.x * a->length;
    double square = 0;
    for (size_t i = threadIdx.x; i < a->length; i += THREADS)
        square += (double)row[i] * row[i];
    square = block_sum(square, sums);
    if (threadIdx.x == 0)
        sums[THREADS / WARP] = 1 / fmax(sqrt(square), 1e-12);
    __syncthreads();
    float scale = (float)sums[THREADS / WARP];
    for (size_t i = threadIdx.x; i < a->length; i += THREADS)
        row[i] *= scale;
}
KERNEL(normalize_rows_all, rows, normalize_row(&a))

void kernel_normalize_rows(const struct queue *q, float *w, int rows, size_t length)
{
    struct rows a = { w, length };
    if (rows > 0)
        RUN(normalize_rows_all, rows, 1, q, a);
}
