/* fold.cu - strided convolutions as ones of stride 1 over lines of pixels, see kernels.h.
 * Folded pixel (I, J) is s lines of `span` pixels of the padded image, which begin at its pixel (I s, J s): channel
 * (u span + v) C + c is channel c of pixel v of line u. */
#include "layers/cuda/kernel.h"

/* Channels up to which a line is as long as the kernel: on an H100 cuDNN took 2.3 to 3.1 times as long with 16 channels as with 64. */
enum { ROWS_MOST = 128 };

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

struct fold kernel_fold_shape(const struct conv_shape *s)
{
    struct fold fold;
    int k = ceil_div(s->k, s->stride), channels = s->stride * s->stride * s->c;
    fold.rows = k > 1 && ceil_div(k * channels, WIDE) * WIDE <= ROWS_MOST;
    fold.span = s->stride * (fold.rows ? k : 1);
    fold.shape = fold.folded = *s;
    fold.folded.k = k;
    fold.folded.h = conv_out_h(s) - 1 + k;
    fold.folded.w = conv_out_w(s) + (fold.rows ? 0 : k - 1);
    fold.folded.c = ceil_div(fold.rows ? k * channels : channels, WIDE) * WIDE;
    fold.folded.stride = 1;
    fold.folded.pad = 0;
    return fold;
}

size_t kernel_fold_weight_count(const struct fold *fold)
{
    return conv_weight_count(&fold->folded) / (fold->rows ? fold->folded.k : 1);
}

/* A thread's 8 channels of a folded pixel: bf16: 2 bytes written an element, those of the image read once (what pixels share comes
 * from the cache), no flops; 75% of the bandwidth, since elements of the image are read one by one. */
struct folding {
    struct fold f;
    const void *from;
    void *to;
};

DEVICE void fold_image(const struct folding *a, enum element type, int width)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    unsigned groups = b->c / WIDE, t = blockIdx.x * THREADS + threadIdx.x;
    unsigned g = t % groups * WIDE, J = t / groups % b->w, I = t / groups / b->w;
    int line = a->f.span * s->c, row = s->w * s->c, u = (int)g / line, v = (int)g % line;
    (void)width;
    if (I >= (unsigned)b->h)
        return;
    for (size_t n = blockIdx.y; n < (size_t)s->n; n += gridDim.y) {
        float pixel[WIDE];
        int next_u = u, next_v = v;
        for (int e = 0; e < WIDE; e++) {
            int y = (int)I * s->stride + next_u - s->pad, x = ((int)J * s->stride - s->pad) * s->c + next_v;
            pixel[e] = 0;
            if (next_u < s->stride && y >= 0 && y < s->h && x >= 0 && x < row)
                load(a->from, (n * s->h + y) * row + x, type, 1, &pixel[e]);
            if (++next_v == line)
                next_u++, next_v = 0;
        }
        store(a->to, ((n * b->h + I) * b->w + J) * b->c + g, type, WIDE, pixel);
    }
}
KERNELS(fold_image, folding)

void kernel_fold_image(const struct queue *q, const struct fold *fold, const void *image, void *folded)
{
    struct folding a = { *fold, image, folded };
    const struct conv_shape *b = &fold->folded;
    RUN_TYPED(fold_image, q->type, 1, blocks_for((size_t)b->h * b->w * (b->c / WIDE)), image_blocks(b->n), q, a);
}

/* An element of the image is the sum of those of its copies, with the adjoint's epilogue. bf16: 2 bytes read of each copy, up to 4
 * of the epilogue, 2 written, up to 10 flops an element; 75% of the bandwidth, since pixels are single elements here. */
struct unfolding {
    struct fold f;
    struct epilogue e;
    enum element result;
    const void *from;
    void *to;
};

DEVICE void unfold_image(const struct unfolding *a, enum element type, int width)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    int line = a->f.span * s->c, row = s->w * s->c, step = s->stride * s->c;
    unsigned t = blockIdx.x * THREADS + threadIdx.x;
    int y = (int)(t / row), x = (int)(t % row), I = (y + s->pad) / s->stride, u = (y + s->pad) % s->stride;
    int place = x + s->pad * s->c, last = place / step, beyond = place - line;
    int first = beyond < 0 ? 0 : beyond / step + 1;
    (void)width;
    if (y >= s->h)
        return;
    last = I >= b->h ? -1 : last < b->w ? last : b->w - 1;
    const struct epilogue e = with_numbers(&a->e);
    for (size_t n = blockIdx.y; n < (size_t)s->n; n += gridDim.y) {
        float pixel = 0, copy;
        for (int J = first; J <= last; J++) {
            load(a->from, ((n * b->h + I) * b->w + J) * b->c + u * line + place - J * step, a->result, 1, &copy);
            pixel += copy;
        }
        size_t at = (n * s->h + y) * row + x;
        apply_epilogue(&e, NULL, at, type, 1, &pixel);
        store(a->to, at, type, 1, &pixel);
    }
}
KERNELS(unfold_image, unfolding)

void kernel_unfold_image(const struct queue *q, const struct fold *fold, enum element result, const void *folded,
                         const struct epilogue *e, void *image)
{
    const struct conv_shape *s = &fold->shape;
    struct unfolding a = { *fold, *e, result, folded, image };
    RUN_TYPED(unfold_image, q->type, 1, blocks_for((size_t)s->h * s->w * s->c), image_blocks(s->n), q, a);
}

/* Weights: 4 bytes read, 2 written; a few megabytes a step at most, so an element a thread. */
DEVICE void fold_weights(const struct folding *a, enum element type, int width)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    int across = a->f.rows ? 1 : b->k;
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    (void)width;
    if (t >= (size_t)b->d * b->k * across * b->c)
        return;
    int g = (int)(t % b->c), B = (int)(t / b->c % across), A = (int)(t / b->c / across % b->k);
    int place = g / s->c, row = A * s->stride + place / a->f.span, column = B * s->stride + place % a->f.span;
    size_t d = t / b->c / across / b->k;
    float v = 0;
    if (place < s->stride * a->f.span && row < s->k && column < s->k)
        v = ((const float *)a->from)[((d * s->k + row) * s->k + column) * s->c + g % s->c];
    store(a->to, t, type, 1, &v);
}
KERNELS(fold_weights, folding)

void kernel_fold_weights(const struct queue *q, const struct fold *fold, const float *weights, void *folded)
{
    struct folding a = { *fold, weights, folded };
    RUN_TYPED(fold_weights, q->type, 1, blocks_for(kernel_fold_weight_count(fold)), 1, q, a);
}

/* 8 bytes read, 4 written an element; a few megabytes a step at most. */
struct gradient {
    struct fold f;
    enum element type;
    const void *from;
    float *dw;
    float alpha;
    const float *alpha_there; /* device, not NULL: alpha is there */
};

DEVICE void unfold_gradient(const struct gradient *a)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= (size_t)s->d * s->k * s->k * s->c)
        return;
    int c = (int)(t % s->c), column = (int)(t / s->c % s->k), row = (int)(t / s->c / s->k % s->k);
    int across = a->f.rows ? 1 : b->k, B = a->f.rows ? 0 : column / s->stride;
    int g = (row % s->stride * a->f.span + column - B * s->stride) * s->c + c;
    size_t d = t / s->c / s->k / s->k;
    float alpha = a->alpha_there ? *a->alpha_there : a->alpha;
    float v;
    load(a->from, ((d * b->k + row / s->stride) * across + B) * b->c + g, a->type, 1, &v);
    a->dw[t] += alpha * v;
}
KERNEL(unfold_gradients, gradient, unfold_gradient(&a))

void kernel_unfold_gradient(const struct queue *q, const struct fold *fold, enum element type, const void *folded, float alpha,
                            const float *alpha_there, float *dw)
{
    struct gradient a = { *fold, type, folded, dw, alpha, alpha_there };
    RUN(unfold_gradients, blocks_for(conv_weight_count(&fold->shape)), 1, q, a);
}
