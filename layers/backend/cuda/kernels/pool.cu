/* pool.cu - max pooling, and the mean over an image. */
#include "layers/backend/cuda/kernels/pool.h"

/* Forward, a thread has `width` channels of one output pixel; backward, of PATCH x PATCH input pixels, and it reads
 * their windows once: a gather, without atomics. Images are blockIdx.y, so that no index needs a 64-bit division.
 * Cost (bf16): 2 bytes for each input element and 6 (value and argmax) for each output element; comparisons: forward
 * k^2 for each output element, backward (k = 3) 4 for each input element; 80% of the bandwidth, since what windows
 * or patches share comes from the cache. */
struct maximum {
    struct pool_shape s;
    const void *from;
    void *to;
    int32_t *argmax;
    int oh, ow;
    bool accumulate;
};

/* Move argmax[0..width), 16 bytes at a time if width allows. */
DEVICE void load_indices(const int32_t *argmax, int width, int32_t *v)
{
    if (width == 1) {
        v[0] = argmax[0];
    } else {
        uint4 a = ((const uint4 *)argmax)[0], b = ((const uint4 *)argmax)[1];
        v[0] = (int32_t)a.x, v[1] = (int32_t)a.y, v[2] = (int32_t)a.z, v[3] = (int32_t)a.w;
        v[4] = (int32_t)b.x, v[5] = (int32_t)b.y, v[6] = (int32_t)b.z, v[7] = (int32_t)b.w;
    }
}

DEVICE void store_indices(int32_t *argmax, int width, const int32_t *v)
{
    if (width == 1) {
        argmax[0] = v[0];
    } else {
        uint4 a, b;
        a.x = (uint32_t)v[0], a.y = (uint32_t)v[1], a.z = (uint32_t)v[2], a.w = (uint32_t)v[3];
        b.x = (uint32_t)v[4], b.y = (uint32_t)v[5], b.z = (uint32_t)v[6], b.w = (uint32_t)v[7];
        ((uint4 *)argmax)[0] = a;
        ((uint4 *)argmax)[1] = b;
    }
}

DEVICE void forward_max(const struct maximum *a, enum element type, int width)
{
    const struct pool_shape *s = &a->s;
    unsigned groups = s->c / width, t = blockIdx.x * THREADS + threadIdx.x, pixel = t / groups;
    if (pixel >= (unsigned)a->oh * a->ow)
        return;
    int c = (int)(t % groups) * width, i = (int)(pixel / a->ow), j = (int)(pixel % a->ow);
    int top = i * s->stride - s->pad, left = j * s->stride - s->pad;
    for (size_t n = blockIdx.y; n < (size_t)s->n; n += gridDim.y) {
        float best[VECTOR], same[VECTOR];
        int32_t at[VECTOR];
        for (int k = 0; k < width; k++)
            at[k] = 0, best[k] = 0, same[k] = 1;
        size_t out = (n * a->oh * a->ow + pixel) * s->c + c;
        if (s->k == 3)
            best_of_nine(s, a->from, n * s->h * s->w, top, left, c, type, width, same, best, at);
        else
            best_of_window(s, a->from, n * s->h * s->w, top, left, c, type, width, same, best, at);
        for (int k = 0; k < width; k++)
            at[k] = (top + at[k] / s->k) * s->w + left + at[k] % s->k;
        store(a->to, out, type, width, best);
        store_indices(a->argmax + out, width, at);
    }
}
KERNELS_MIN_BLOCKS(2, forward_max, maximum)

DEVICE void backward_max(const struct maximum *a, enum element type, int width)
{
    const struct pool_shape *s = &a->s;
    struct patch at;
    if (!patch_of(s, a->oh, a->ow, width, &at))
        return;
    int c = at.c, y = at.y, x = at.x;
    int pixel = y * s->w + x;
    for (size_t n = blockIdx.y; n < (size_t)s->n; n += gridDim.y) {
        float sum[PATCH * PATCH][VECTOR], v[VECTOR];
        int32_t argmax[VECTOR];
        size_t in = (n * s->h * s->w + pixel) * s->c + c;
        for (int p = 0; p < PATCH * PATCH; p++) {
            for (int k = 0; k < width; k++)
                sum[p][k] = 0;
            if (a->accumulate && y + p / PATCH < s->h && x + p % PATCH < s->w)
                load(a->to, in + ((size_t)(p / PATCH) * s->w + p % PATCH) * s->c, type, width, sum[p]);
        }
        for (int i = at.from_i; i <= at.to_i; i++)
            for (int j = at.from_j; j <= at.to_j; j++) {
                size_t out = ((n * a->oh + i) * a->ow + j) * s->c + c;
                load(a->from, out, type, width, v);
                load_indices(a->argmax + out, width, argmax);
                for (int p = 0; p < PATCH * PATCH; p++)
                    for (int k = 0; k < width; k++)
                        if (argmax[k] == pixel + p / PATCH * s->w + p % PATCH)
                            sum[p][k] += v[k];
            }
        for (int p = 0; p < PATCH * PATCH; p++)
            if (y + p / PATCH < s->h && x + p % PATCH < s->w)
                store(a->to, in + ((size_t)(p / PATCH) * s->w + p % PATCH) * s->c, type, width, sum[p]);
    }
}
KERNELS(backward_max, maximum)

static struct maximum maximum(const struct pool_shape *s, const void *from, void *to, const int32_t *argmax,
                              bool accumulate)
{
    struct maximum a = { *s,
                         from,
                         to,
                         (int32_t *)argmax,
                         (s->h + 2 * s->pad - s->k) / s->stride + 1,
                         (s->w + 2 * s->pad - s->k) / s->stride + 1,
                         accumulate };
    return a;
}

void kernel_max_forward(const struct queue *q, const struct pool_shape *s, const void *x, void *y, int32_t *argmax)
{
    struct maximum a = maximum(s, x, y, argmax, false);
    int width = column_width(s->c, aligned16(x) && aligned16(y) && aligned16(argmax));
    RUN_TYPED(forward_max, q->type, width, blocks_for((size_t)a.oh * a.ow * (s->c / width)), image_blocks(s->n), q, a);
}

void kernel_max_backward(const struct queue *q, const struct pool_shape *s, const void *dy, const int32_t *argmax,
                         void *dx, bool accumulate)
{
    struct maximum a = maximum(s, dy, dx, argmax, accumulate);
    int width = column_width(s->c, aligned16(dy) && aligned16(dx) && aligned16(argmax));
    RUN_TYPED(backward_max, q->type, width, patch_blocks(s, width), image_blocks(s->n), q, a);
}

/* The mean over an image, and its gradient. A block has `across` columns of one image, blockIdx.x. Cost: 2 bytes
 * (bf16), 1 flop; 80% of the bandwidth for many images. */
struct mean {
    const void *from;
    void *to;
    int hw, c, across;
};

DEVICE void forward_mean(const struct mean *a, enum element type, int width)
{
    SHARED(float, shared, VECTOR *THREADS);
    int c = (int)(blockIdx.y * a->across + threadIdx.x % a->across) * width, thread_row = threadIdx.x / a->across;
    float v[VECTOR], sum[VECTOR];
    for (int k = 0; k < width; k++)
        sum[k] = 0;
    for (int p = thread_row; c < a->c && p < a->hw; p += THREADS / a->across) {
        load(a->from, ((size_t)blockIdx.x * a->hw + p) * a->c + c, type, width, v);
        for (int k = 0; k < width; k++)
            sum[k] += v[k];
    }
    for (int k = 0; k < width; k++)
        shared[k * THREADS + threadIdx.x] = sum[k];
    __syncthreads();
    if (thread_row > 0 || c >= a->c)
        return;
    for (int l = 1; l < THREADS / a->across; l++)
        for (int k = 0; k < width; k++)
            sum[k] += shared[k * THREADS + l * a->across + threadIdx.x];
    for (int k = 0; k < width; k++)
        ((float *)a->to)[(size_t)blockIdx.x * a->c + c + k] = sum[k] / (float)a->hw;
}
KERNELS(forward_mean, mean)

DEVICE void backward_mean(const struct mean *a, enum element type, int width)
{
    int c = (int)(blockIdx.y * a->across + threadIdx.x % a->across) * width, thread_row = threadIdx.x / a->across;
    float v[VECTOR];
    if (c >= a->c)
        return;
    for (int k = 0; k < width; k++)
        v[k] = ((const float *)a->from)[(size_t)blockIdx.x * a->c + c + k] / (float)a->hw;
    for (int p = thread_row; p < a->hw; p += THREADS / a->across)
        store(a->to, ((size_t)blockIdx.x * a->hw + p) * a->c + c, type, width, v);
}
KERNELS(backward_mean, mean)

void kernel_mean_forward(const struct queue *q, int n, int hw, int c, const void *x, float *y)
{
    int width = column_width(c, aligned16(x));
    struct column_grid grid = column_grid(q, hw, c, width, 1, 1, false);
    struct mean a = { x, y, hw, c, grid.s.across };
    RUN_TYPED(forward_mean, q->type, width, n, grid.y, q, a);
}

void kernel_mean_backward(const struct queue *q, int n, int hw, int c, const float *dy, void *dx)
{
    int width = column_width(c, aligned16(dx));
    struct column_grid grid = column_grid(q, hw, c, width, 1, 1, false);
    struct mean a = { dy, dx, hw, c, grid.s.across };
    RUN_TYPED(backward_mean, q->type, width, n, grid.y, q, a);
}
