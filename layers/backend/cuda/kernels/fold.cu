/* fold.cu - folds images, weights and gradients, see kernels.h. Folded pixel (I, J) is s lines of `span` pixels of
 * the padded image that begin at its pixel (I s, J s); channel (u span + v) C + c is channel c of pixel v of line u.
 * With k_by_1 the lines of neighbouring pixels overlap in the image, but are stored apart: cuDNN 9.19 has no plan
 * for tensors whose strides overlap. */
#include "base/integer.h"
#include "layers/backend/cuda/kernels/kernel.h"

/* k_by_1 is used up to so many channels: on an H100 cuDNN took 2.3 to 3.1 times as long for 16 channels as for 64. */
enum { MAX_K_BY_1_CHANNELS = 128 };

struct fold kernel_fold_shape(const struct conv_shape *s)
{
    struct fold fold;
    int k = ceil_div(s->k, s->stride), channels = s->stride * s->stride * s->c;
    fold.k_by_1 = k > 1 && ceil_div(k * channels, VECTOR) * VECTOR <= MAX_K_BY_1_CHANNELS;
    fold.span = s->stride * (fold.k_by_1 ? k : 1);
    fold.shape = fold.folded = *s;
    fold.folded.k = k;
    fold.folded.h = conv_out_h(s) - 1 + k;
    fold.folded.w = conv_out_w(s) + (fold.k_by_1 ? 0 : k - 1);
    fold.folded.c = ceil_div(fold.k_by_1 ? k * channels : channels, VECTOR) * VECTOR;
    fold.folded.stride = 1;
    fold.folded.pad = 0;
    return fold;
}

size_t kernel_fold_weight_count(const struct fold *fold)
{
    return conv_weight_count(&fold->folded) / (fold->k_by_1 ? fold->folded.k : 1);
}

/* A thread has the same pixel of several images, so that it computes its offsets only once. */
static int image_groups(int n)
{
    return image_blocks(ceil_div(n, 8));
}

/* Each thread writes VECTOR channels of a folded pixel. Cost (bf16): 2 bytes written, the image read once (pixels
 * that are read again come from the cache), no flops; 75% of the bandwidth, because the image is read one element at
 * a time. */
struct folding {
    struct fold f;
    const void *from;
    void *to;
};

DEVICE void fold_image(const struct folding *a, enum element type, int width)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    unsigned groups = b->c / VECTOR, t = blockIdx.x * THREADS + threadIdx.x;
    unsigned g = t % groups * VECTOR, J = t / groups % b->w, I = t / groups / b->w;
    int line = a->f.span * s->c, row = s->w * s->c, u = (int)g / line, v = (int)g % line, from[VECTOR];
    (void)width;
    if (I >= (unsigned)b->h)
        return;
    for (int e = 0; e < VECTOR; e++) { /* offset in an image; -1: outside */
        int y = (int)I * s->stride + u - s->pad, x = ((int)J * s->stride - s->pad) * s->c + v;
        from[e] = u < s->stride && y >= 0 && y < s->h && x >= 0 && x < row ? y * row + x : -1;
        if (++v == line)
            u++, v = 0;
    }
    size_t image = (size_t)s->h * row, folded = (size_t)b->h * b->w * b->c, to = ((size_t)I * b->w + J) * b->c + g;
    for (size_t n = blockIdx.y; n < (size_t)s->n; n += gridDim.y) {
        float pixel[VECTOR];
        for (int e = 0; e < VECTOR; e++) {
            pixel[e] = 0;
            if (from[e] >= 0)
                load(a->from, n * image + from[e], type, 1, &pixel[e]);
        }
        store(a->to, n * folded + to, type, VECTOR, pixel);
    }
}
KERNELS(fold_image, folding)

void kernel_fold_image(const struct queue *q, const struct fold *fold, const void *image, void *folded)
{
    struct folding a = { *fold, image, folded };
    const struct conv_shape *b = &fold->folded;
    RUN_TYPED(fold_image, q->type, 1, blocks_for((size_t)b->h * b->w * (b->c / VECTOR)), image_groups(b->n), q, a);
}

/* An element of the image is the sum over its copies, followed by the adjoint's epilogue. Cost (bf16): 2 bytes read
 * for each copy, up to 4 for the epilogue, 2 written, up to 10 flops; 75% of the bandwidth, because single elements
 * are read. */
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
    int padded_x = x + s->pad * s->c, last = padded_x / step, beyond = padded_x - line;
    int first = beyond < 0 ? 0 : beyond / step + 1;
    (void)width;
    if (y >= s->h)
        return;
    last = last < b->w ? last : b->w - 1;
    int copies = I < b->h ? last - first + 1 : 0, copy_stride = b->c - step;
    size_t image = (size_t)s->h * row, folded = (size_t)b->h * b->w * b->c, to = (size_t)y * row + x;
    size_t from = ((size_t)I * b->w + first) * b->c + u * line + padded_x - first * step;
    const struct epilogue e = resolve_scalars(&a->e);
    for (size_t n = blockIdx.y; n < (size_t)s->n;
         n += 2 * gridDim.y) { /* two images at once keep more loads in flight */
        size_t other = n + gridDim.y < (size_t)s->n ? n + gridDim.y : n;
        float pixel = 0, other_pixel = 0, copy, other_copy;
        for (int k = 0; k < copies; k++) {
            load(a->from, n * folded + from + (size_t)k * copy_stride, a->result, 1, &copy);
            load(a->from, other * folded + from + (size_t)k * copy_stride, a->result, 1, &other_copy);
            pixel += copy;
            other_pixel += other_copy;
        }
        apply_epilogue(&e, NULL, n * image + to, type, 1, &pixel);
        store(a->to, n * image + to, type, 1, &pixel);
        if (other == n)
            continue;
        apply_epilogue(&e, NULL, other * image + to, type, 1, &other_pixel);
        store(a->to, other * image + to, type, 1, &other_pixel);
    }
}
KERNELS(unfold_image, unfolding)

void kernel_unfold_image(const struct queue *q, const struct fold *fold, enum element result, const void *folded,
                         const struct epilogue *e, void *image)
{
    const struct conv_shape *s = &fold->shape;
    struct unfolding a = { *fold, *e, result, folded, image };
    RUN_TYPED(unfold_image, q->type, 1, blocks_for((size_t)s->h * s->w * s->c), image_groups(s->n), q, a);
}

/* Weights, one element a thread. Cost: 4 bytes read, 2 written, a few megabytes a step at most. */
DEVICE void fold_weights(const struct folding *a, enum element type, int width)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    int across = a->f.k_by_1 ? 1 : b->k;
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    (void)width;
    if (t >= (size_t)b->d * b->k * across * b->c)
        return;
    int g = (int)(t % b->c), B = (int)(t / b->c % across), A = (int)(t / b->c / across % b->k);
    int pixel = g / s->c, row = A * s->stride + pixel / a->f.span, column = B * s->stride + pixel % a->f.span;
    size_t d = t / b->c / across / b->k;
    float v = 0;
    if (pixel < s->stride * a->f.span && row < s->k && column < s->k)
        v = ((const float *)a->from)[((d * s->k + row) * s->k + column) * s->c + g % s->c];
    store(a->to, t, type, 1, &v);
}
KERNELS(fold_weights, folding)

void kernel_fold_weights(const struct queue *q, const struct fold *fold, const float *weights, void *folded)
{
    struct folding a = { *fold, weights, folded };
    RUN_TYPED(fold_weights, q->type, 1, blocks_for(kernel_fold_weight_count(fold)), 1, q, a);
}

/* Gradients, one element a thread. Cost: 8 bytes read, 4 written, a few megabytes a step at most. */
struct gradient {
    struct fold f;
    enum element type;
    const void *from;
    float *dw;
    float alpha;
    const float *alpha_device; /* device memory; NULL: alpha is used */
};

DEVICE void unfold_gradient(const struct gradient *a)
{
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= (size_t)s->d * s->k * s->k * s->c)
        return;
    int c = (int)(t % s->c), column = (int)(t / s->c % s->k), row = (int)(t / s->c / s->k % s->k);
    int across = a->f.k_by_1 ? 1 : b->k, B = a->f.k_by_1 ? 0 : column / s->stride;
    int g = (row % s->stride * a->f.span + column - B * s->stride) * s->c + c;
    size_t d = t / s->c / s->k / s->k;
    float alpha = a->alpha_device ? *a->alpha_device : a->alpha;
    float v;
    load(a->from, ((d * b->k + row / s->stride) * across + B) * b->c + g, a->type, 1, &v);
    a->dw[t] += alpha * v;
}
KERNEL(unfold_gradients, gradient, unfold_gradient(&a))

void kernel_unfold_gradient(const struct queue *q, const struct fold *fold, enum element type, const void *folded,
                            float alpha, const float *alpha_device, float *dw)
{
    struct gradient a = { *fold, type, folded, dw, alpha, alpha_device };
    RUN(unfold_gradients, blocks_for(conv_weight_count(&fold->shape)), 1, q, a);
}
