/* optimizer.cu - SGD as in torch.optim.SGD, and atoms scaled to unit norm. */
#include "layers/backend/cuda/kernels/kernel.h"

/* Returns the new weight and replaces *v. */
DEVICE float step_one(const struct sgd *sgd, float decay, float w, float g, float *v)
{
    float step = sgd->scale * g + decay * w;
    *v = sgd->first ? step : sgd->momentum * *v + step;
    return w - sgd->lr * (sgd->nesterov ? step + sgd->momentum * *v : *v);
}

/* `width` floats, 1 or 4 */
DEVICE void load_floats(const float *from, int width, float *v)
{
    if (width == 1) {
        v[0] = from[0];
    } else {
        float4 p = *(const float4 *)from;
        v[0] = p.x, v[1] = p.y, v[2] = p.z, v[3] = p.w;
    }
}

DEVICE void store_floats(float *to, int width, const float *v)
{
    if (width == 1) {
        to[0] = v[0];
    } else {
        float4 p;
        p.x = v[0], p.y = v[1], p.z = v[2], p.w = v[3];
        *(float4 *)to = p;
    }
}

/* Updates all tensors in one launch, a block for each row. Atoms are projected before they are written: the new atom
 * waits in shared memory until its norm is known. Cost: 20 bytes, 9 flops; 85% of the bandwidth. */
struct row_update {
    struct sgd sgd;
    float *w, *v;
    const float *g;
    const struct sgd_row *rows;
    int aligned; /* w, v and g are aligned to 16 bytes */
};

/* Computes new weights into new_atom or, if that is NULL, into w; returns the sum of the thread's squares. */
DEVICE double move_row(const struct row_update *a, const struct sgd_row *row, int width, float *new_atom)
{
    float *w = a->w + row->offset, *v = a->v + row->offset;
    const float *g = a->g + row->offset;
    float decay = row->decays ? a->sgd.weight_decay : 0;
    double square = 0;
    for (int i = threadIdx.x * width; i < row->length; i += THREADS * width) {
        float next[4], speed[4], slope[4];
        load_floats(w + i, width, next);
        load_floats(v + i, width, speed);
        load_floats(g + i, width, slope);
        for (int k = 0; k < width; k++) {
            next[k] = step_one(&a->sgd, decay, next[k], slope[k], &speed[k]);
            square += (double)next[k] * next[k];
            if (new_atom)
                new_atom[i + k] = next[k];
        }
        store_floats(v + i, width, speed);
        if (!new_atom)
            store_floats(w + i, width, next);
    }
    return square;
}

DEVICE void scale_row(const struct row_update *a, const struct sgd_row *row, int width, const float *new_atom,
                      float scale)
{
    float *w = a->w + row->offset;
    for (int i = threadIdx.x * width; i < row->length; i += THREADS * width) {
        float next[4];
        if (!new_atom)
            load_floats(w + i, width, next);
        for (int k = 0; k < width; k++)
            next[k] = scale * (new_atom ? new_atom[i + k] : next[k]);
        store_floats(w + i, width, next);
    }
}

DEVICE void update_row(const struct row_update *a)
{
    SHARED(double, sums, THREADS / WARP + 1);
    SHARED(float, atom, KERNELS_MAX_SHARED_ATOM);
    const struct sgd_row row = a->rows[blockIdx.x];
    float *new_atom = row.atom && row.length <= KERNELS_MAX_SHARED_ATOM ? atom : NULL;
    bool fours = a->aligned && row.offset % 4 == 0 && row.length % 4 == 0;
    double square = fours ? move_row(a, &row, 4, new_atom) : move_row(a, &row, 1, new_atom);
    if (!row.atom)
        return;
    square = block_sum(square, sums);
    if (threadIdx.x == 0)
        sums[THREADS / WARP] = 1 / fmax(sqrt(square), 1e-12);
    __syncthreads();
    float scale = (float)sums[THREADS / WARP];
    if (fours)
        scale_row(a, &row, 4, new_atom, scale);
    else
        scale_row(a, &row, 1, new_atom, scale);
}
KERNEL(update_rows, row_update, update_row(&a))

void kernel_sgd(const struct queue *q, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count)
{
    struct row_update a = { *sgd, w, v, g, rows, aligned16(w) && aligned16(v) && aligned16(g) };
    if (count > 0)
        RUN(update_rows, count, 1, q, a);
}

/* A block for each row, which is read twice, the second time from the cache. Cost: 8 bytes, 3 flops; 70% of the
 * bandwidth. */
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
