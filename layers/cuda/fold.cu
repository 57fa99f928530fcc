/* fold.cu - strided convolutions as ones of stride 1 over blocks of s x s pixels, see kernels.h.
 * Padded row r = y + pad of the image is row r % s of block r / s; channel (u s + v) C + c of a block is channel c
 * of its pixel (u, v). */
#include "layers/cuda/kernel.h"

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

struct fold kernel_fold_shape(const struct conv_shape *s)
{
    struct fold fold;
    fold.shape = fold.folded = *s;
    fold.folded.k = ceil_div(s->k, s->stride);
    fold.folded.h = conv_out_h(s) - 1 + fold.folded.k;
    fold.folded.w = conv_out_w(s) - 1 + fold.folded.k;
    fold.folded.c = ceil_div(s->stride * s->stride * s->c, WIDE) * WIDE;
    fold.folded.stride = 1;
    fold.folded.pad = 0;
    return fold;
}

/* A block's channels 8 g .. of folded pixel (I, J): bf16: 2 bytes read, 2 written, no flops; 85% of the bandwidth,
 * 60% with 3 channels, whose reads are single elements. */
struct folding {
    struct fold f;
    const void *from;
    void *to;
};

DEVICE void fold_image(const struct folding *a, enum element type, int width)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    size_t groups = b->c / WIDE, t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= groups * b->w * b->h * b->n)
        return;
    size_t n = t / groups / b->w / b->h;
    int g = (int)(t % groups) * WIDE, J = (int)(t / groups % b->w), I = (int)(t / groups / b->w % b->h);
    float v[WIDE];
    for (int e = 0; e < WIDE; e += width) {
        int c = (g + e) % s->c, place = (g + e) / s->c;
        int y = I * s->stride + place / s->stride - s->pad, x = J * s->stride + place % s->stride - s->pad;
        bool inside = place < s->stride * s->stride && y >= 0 && y < s->h && x >= 0 && x < s->w;
        for (int k = 0; k < width; k++)
            v[e + k] = 0;
        if (inside)
            load(a->from, ((n * s->h + y) * s->w + x) * s->c + c, type, width, &v[e]);
    }
    store(a->to, t * WIDE, type, WIDE, v);
}
KERNELS(fold_image, folding)

void kernel_fold_image(const struct queue *q, const struct fold *fold, const void *image, void *folded)
{
    struct folding a = { *fold, image, folded };
    const struct conv_shape *b = &fold->folded;
    RUN_TYPED(fold_image, q->type, column_width(fold->shape.c, aligned16(image)),
              blocks_for((size_t)b->n * b->h * b->w * (b->c / WIDE)), 1, q, a);
}

/* A pixel's channels from its block, with the adjoint's epilogue. bf16: 2 to 6 bytes read, 2 written, up to 6 flops
 * an element; 80% of the bandwidth. */
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
    size_t groups = s->c / width, t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= groups * s->w * s->h * s->n)
        return;
    size_t n = t / groups / s->w / s->h;
    int c = (int)(t % groups) * width;
    int x = (int)(t / groups % s->w) + s->pad, y = (int)(t / groups / s->w % s->h) + s->pad;
    int I = y / s->stride, J = x / s->stride, place = y % s->stride * s->stride + x % s->stride;
    float v[WIDE];
    for (int k = 0; k < width; k++)
        v[k] = 0;
    if (I < b->h && J < b->w)
        load(a->from, ((n * b->h + I) * b->w + J) * b->c + place * s->c + c, a->result, width, v);
    const struct epilogue e = with_numbers(&a->e);
    apply_epilogue(&e, NULL, t * width, type, width, v);
    store(a->to, t * width, type, width, v);
}
KERNELS(unfold_image, unfolding)

void kernel_unfold_image(const struct queue *q, const struct fold *fold, enum element result, const void *folded,
                         const struct epilogue *e, void *image)
{
    struct unfolding a = { *fold, *e, result, folded, image };
    const struct conv_shape *s = &fold->shape;
    bool wide = aligned16(folded) && aligned16(image) && aligned16(e->add) &&
                (e->kind != EPILOGUE_MASK || aligned16(e->mask));
    int width = column_width(s->c, wide);
    RUN_TYPED(unfold_image, q->type, width, blocks_for((size_t)s->n * s->h * s->w * (s->c / width)), 1, q, a);
}

/* Weights: 4 bytes read, 2 written; a few megabytes a step at most, so an element a thread. */
DEVICE void fold_weights(const struct folding *a, enum element type, int width)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    (void)width;
    if (t >= (size_t)b->d * b->k * b->k * b->c)
        return;
    int g = (int)(t % b->c), B = (int)(t / b->c % b->k), A = (int)(t / b->c / b->k % b->k);
    int place = g / s->c, row = A * s->stride + place / s->stride, column = B * s->stride + place % s->stride;
    size_t d = t / b->c / b->k / b->k;
    float v = 0;
    if (place < s->stride * s->stride && row < s->k && column < s->k)
        v = ((const float *)a->from)[((d * s->k + row) * s->k + column) * s->c + g % s->c];
    store(a->to, t, type, 1, &v);
}
KERNELS(fold_weights, folding)

void kernel_fold_weights(const struct queue *q, const struct fold *fold, const float *weights, void *folded)
{
    struct folding a = { *fold, weights, folded };
    RUN_TYPED(fold_weights, q->type, 1, blocks_for(conv_weight_count(&fold->folded)), 1, q, a);
}

/* 8 bytes read, 4 written an element; a few megabytes a step at most. */
struct gradient {
    struct fold f;
    const float *from;
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
    int g = (row % s->stride * s->stride + column % s->stride) * s->c + c;
    size_t d = t / s->c / s->k / s->k;
    float alpha = a->alpha_there ? *a->alpha_there : a->alpha;
    a->dw[t] += alpha * a->from[((d * b->k + row / s->stride) * b->k + column / s->stride) * b->c + g];
}
KERNEL(unfold_gradients, gradient, unfold_gradient(&a))

void kernel_unfold_gradient(const struct queue *q, const struct fold *fold, const float *folded, float alpha,
                            const float *alpha_there, float *dw)
{
    struct gradient a = { *fold, folded, dw, alpha, alpha_there };
    RUN(unfold_gradients, blocks_for(conv_weight_count(&fold->shape)), 1, q, a);
}
