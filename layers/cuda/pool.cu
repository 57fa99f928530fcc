/* pool.cu - max pooling, mean over an image. A thread takes some channels of one pixel. */
#include "layers/cuda/kernel.h"

/* Forward: bf16: 2 bytes an input and 6 (value and winner) an output element, k^2 comparisons; 80%: inputs that
 * windows share come from the cache. Backward as a gather, without atomics: the same bytes. */
struct maximum {
    struct pool_shape s;
    const void *from;
    void *to;
    int32_t *winner;
    int oh, ow;
    bool accumulate;
};

DEVICE void forward_max(const struct maximum *a, enum element type, int width)
{
    const struct pool_shape *s = &a->s;
    size_t groups = s->c / width, t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= groups * a->ow * a->oh * s->n)
        return;
    size_t n = t / groups / a->ow / a->oh;
    int c = (int)(t % groups) * width, j = (int)(t / groups % a->ow), i = (int)(t / groups / a->ow % a->oh);
    int top = i * s->stride - s->pad, left = j * s->stride - s->pad;
    float best[WIDE], v[WIDE];
    int32_t at[WIDE];
    for (int k = 0; k < width; k++)
        at[k] = -1, best[k] = 0;
    for (int y = top < 0 ? 0 : top; y < top + s->k && y < s->h; y++)
        for (int x = left < 0 ? 0 : left; x < left + s->k && x < s->w; x++) {
            load(a->from, ((n * s->h + y) * s->w + x) * s->c + c, type, width, v);
            for (int k = 0; k < width; k++)
                if (at[k] < 0 || v[k] > best[k]) {
                    best[k] = v[k];
                    at[k] = y * s->w + x;
                }
        }
    size_t out = ((n * a->oh + i) * a->ow + j) * s->c + c;
    store(a->to, out, type, width, best);
    for (int k = 0; k < width; k++)
        a->winner[out + k] = at[k];
}
KERNELS(forward_max, maximum)

DEVICE void backward_max(const struct maximum *a, enum element type, int width)
{
    const struct pool_shape *s = &a->s;
    size_t groups = s->c / width, t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= groups * s->w * s->h * s->n)
        return;
    size_t n = t / groups / s->w / s->h;
    int c = (int)(t % groups) * width, x = (int)(t / groups % s->w), y = (int)(t / groups / s->w % s->h);
    int from_i = (y + s->pad - s->k + s->stride) / s->stride, from_j = (x + s->pad - s->k + s->stride) / s->stride;
    if (y + s->pad < s->k)
        from_i = 0;
    if (x + s->pad < s->k)
        from_j = 0;
    float sum[WIDE], v[WIDE];
    size_t in = ((n * s->h + y) * s->w + x) * s->c + c;
    for (int k = 0; k < width; k++)
        sum[k] = 0;
    if (a->accumulate)
        load(a->to, in, type, width, sum);
    for (int i = from_i; i < a->oh && i * s->stride - s->pad <= y; i++)
        for (int j = from_j; j < a->ow && j * s->stride - s->pad <= x; j++) {
            size_t out = ((n * a->oh + i) * a->ow + j) * s->c + c;
            load(a->from, out, type, width, v);
            for (int k = 0; k < width; k++)
                if (a->winner[out + k] == y * s->w + x)
                    sum[k] += v[k];
        }
    store(a->to, in, type, width, sum);
}
KERNELS(backward_max, maximum)

static struct maximum maximum(const struct pool_shape *s, const void *from, void *to, const int32_t *winner,
                              bool accumulate)
{
    struct maximum a = { *s, from, to, (int32_t *)winner, (s->h + 2 * s->pad - s->k) / s->stride + 1,
                         (s->w + 2 * s->pad - s->k) / s->stride + 1, accumulate };
    return a;
}

void kernel_max_forward(const struct queue *q, const struct pool_shape *s, const void *x, void *y, int32_t *winner)
{
    struct maximum a = maximum(s, x, y, winner, false);
    int width = column_width(s->c, aligned16(x) && aligned16(y));
    RUN_TYPED(forward_max, q->type, width, blocks_for((size_t)s->n * a.oh * a.ow * (s->c / width)), 1, q, a);
}

void kernel_max_backward(const struct queue *q, const struct pool_shape *s, const void *dy, const int32_t *winner,
                         void *dx, bool accumulate)
{
    struct maximum a = maximum(s, dy, dx, winner, accumulate);
    int width = column_width(s->c, aligned16(dy) && aligned16(dx));
    RUN_TYPED(backward_max, q->type, width, blocks_for((size_t)s->n * s->h * s->w * (s->c / width)), 1, q, a);
}

/* Mean over an image, and its reverse: bf16: 2 bytes, 1 flop an element; 80% of the bandwidth for many images. A
 * block takes `across` columns of one image, blockIdx.x. */
struct mean {
    const void *from;
    void *to;
    int hw, c, across;
};

DEVICE void forward_mean(const struct mean *a, enum element type, int width)
{
    SHARED(float, shared, WIDE *THREADS);
    int c = (int)(blockIdx.y * a->across + threadIdx.x % a->across) * width, lane = threadIdx.x / a->across;
    float v[WIDE], sum[WIDE];
    for (int k = 0; k < width; k++)
        sum[k] = 0;
    for (int p = lane; c < a->c && p < a->hw; p += THREADS / a->across) {
        load(a->from, ((size_t)blockIdx.x * a->hw + p) * a->c + c, type, width, v);
        for (int k = 0; k < width; k++)
            sum[k] += v[k];
    }
    for (int k = 0; k < width; k++)
        shared[k * THREADS + threadIdx.x] = sum[k];
    __syncthreads();
    if (lane > 0 || c >= a->c)
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
    int c = (int)(blockIdx.y * a->across + threadIdx.x % a->across) * width, lane = threadIdx.x / a->across;
    float v[WIDE];
    if (c >= a->c)
        return;
    for (int k = 0; k < width; k++)
        v[k] = ((const float *)a->from)[(size_t)blockIdx.x * a->c + c + k] / (float)a->hw;
    for (int p = lane; p < a->hw; p += THREADS / a->across)
        store(a->to, ((size_t)blockIdx.x * a->hw + p) * a->c + c, type, width, v);
}
KERNELS(backward_mean, mean)

void kernel_mean_forward(const struct queue *q, int n, int hw, int c, const void *x, float *y)
{
    int width = column_width(c, aligned16(x));
    struct column_grid grid = column_grid(hw, c, width, 1);
    struct mean a = { x, y, hw, c, grid.s.across };
    RUN_TYPED(forward_mean, q->type, width, n, grid.y, q, a);
}

void kernel_mean_backward(const struct queue *q, int n, int hw, int c, const float *dy, void *dx)
{
    int width = column_width(c, aligned16(dx));
    struct column_grid grid = column_grid(hw, c, width, 1);
    struct mean a = { dy, dx, hw, c, grid.s.across };
    RUN_TYPED(backward_mean, q->type, width, n, grid.y, q, a);
}
