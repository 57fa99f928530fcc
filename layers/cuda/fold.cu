/* fold.cu - strided convolutions as ones of stride 1 over blocks of s x s pixels, see kernels.h.
 * Padded row r = y + pad of the image is row r % s of block r / s; channel (u s + v) C + c of a block is channel c
 * of its pixel (u, v). */
#include "layers/cuda/kernel.h"

/* Channels of a row of the kernel up to which rows pay: on an H100 cuDNN took 2.3 to 3.1 times as long with 16 channels as with 64. */
enum { ROWS_MOST = 128 };

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
    fold.rows = fold.folded.k > 1 && fold.folded.k * fold.folded.c <= ROWS_MOST;
    return fold;
}

size_t kernel_fold_count(const struct fold *fold)
{
    const struct conv_shape *b = &fold->folded;
    return fold->rows ? (size_t)b->n * b->h * (b->w - b->k + 1) * b->k * b->c : conv_in_count(b);
}

/* Where channel g of folded pixel (I, J) of image n lies, with rows as the column-th of its row. */
DEVICE size_t folded_at(const struct fold *f, size_t n, int I, int J, int column, int g)
{
    const struct conv_shape *b = &f->folded;
    if (!f->rows)
        return ((n * b->h + I) * b->w + J) * b->c + g;
    return (((n * b->h + I) * (b->w - b->k + 1) + J - column) * b->k + column) * b->c + g;
}

/* Columns of the rows that pixel J is in: none below 0, none past the last row. */
DEVICE int first_column(const struct fold *f, int J)
{
    int rows = f->folded.w - f->folded.k + 1;
    return f->rows && J >= rows ? J - rows + 1 : 0;
}
DEVICE int last_column(const struct fold *f, int J)
{
    return !f->rows ? 0 : J < f->folded.k ? J : f->folded.k - 1;
}

/* A block's channels 8 g .. of folded pixel (I, J): bf16: 2 bytes read, 2 written, with rows k" times as many, no flops; 85% of
 * the bandwidth, 60% with 3 channels, whose reads are single elements. */
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
    for (int column = first_column(&a->f, J); column <= last_column(&a->f, J); column++)
        store(a->to, folded_at(&a->f, n, I, J, column, g), type, WIDE, v);
}
KERNELS(fold_image, folding)

void kernel_fold_image(const struct queue *q, const struct fold *fold, const void *image, void *folded)
{
    struct folding a = { *fold, image, folded };
    const struct conv_shape *b = &fold->folded;
    RUN_TYPED(fold_image, q->type, column_width(fold->shape.c, aligned16(image)),
              blocks_for((size_t)b->n * b->h * b->w * (b->c / WIDE)), 1, q, a);
}

/* Blocks of pixels to the image, with the adjoint's epilogue: a CUDA block takes `across` of a row, gathers them in shared
 * memory, and goes along the rows of the image. bf16: 2 bytes read, with rows k" times as many, up to 4 of the epilogue, 2 written,
 * up to 6 flops an element; 75% of the bandwidth, since pixels are single elements here. */
struct unfolding {
    struct fold f;
    struct epilogue e;
    enum element result;
    const void *from;
    void *to;
    int bh;            /* rows of blocks that cover the image: some may lie behind the folded one */
    int across, tiles; /* blocks that a CUDA block takes; of those in a row */
};

DEVICE void gather_block(const struct unfolding *a, size_t n, int I, int J, int g, float *v)
{
    const struct conv_shape *b = &a->f.folded;
    float part[WIDE];
    for (int k = 0; k < WIDE; k++)
        v[k] = 0;
    for (int column = first_column(&a->f, J); I < b->h && J < b->w && column <= last_column(&a->f, J); column++) {
        load(a->from, folded_at(&a->f, n, I, J, column, g), a->result, WIDE, part);
        for (int k = 0; k < WIDE; k++)
            v[k] += part[k];
    }
}

DEVICE void unfold_image(const struct unfolding *a, enum element type, int width)
{
    SHARED(float, shared, WIDE *THREADS);
    const struct conv_shape *s = &a->f.shape, *b = &a->f.folded;
    int groups = b->c / WIDE, tile = (int)(blockIdx.x % a->tiles), I = (int)(blockIdx.x / a->tiles % a->bh);
    size_t n = blockIdx.x / a->tiles / a->bh;
    int J = tile * a->across + (int)threadIdx.x / groups, g = (int)threadIdx.x % groups * WIDE;
    float v[WIDE];
    (void)width;
    if ((int)threadIdx.x < a->across * groups) {
        gather_block(a, n, I, J, g, v);
        for (int k = 0; k < WIDE; k++)
            shared[(threadIdx.x / groups) * b->c + g + k] = v[k];
    }
    __syncthreads();
    const struct epilogue e = with_numbers(&a->e);
    int row = s->stride * s->c; /* elements of a block in a row of the image */
    int first = (tile * a->across * s->stride - s->pad) * s->c;
    for (int u = 0; u < s->stride; u++) {
        int y = I * s->stride + u - s->pad;
        int from = first < 0 ? -first : 0, to = s->w * s->c - first; /* within the image */
        size_t line = (n * s->h + y) * s->w * s->c + first;
        if (y < 0 || y >= s->h)
            continue;
        for (int i = from + (int)threadIdx.x; i < to && i < a->across * row; i += THREADS) {
            size_t at = line + i;
            float pixel = shared[i / row * b->c + u * row + i % row];
            apply_epilogue(&e, NULL, at, type, 1, &pixel);
            store(a->to, at, type, 1, &pixel);
        }
    }
}
KERNELS(unfold_image, unfolding)

void kernel_unfold_image(const struct queue *q, const struct fold *fold, enum element result, const void *folded,
                         const struct epilogue *e, void *image)
{
    const struct conv_shape *s = &fold->shape;
    int bh = ceil_div(s->h + s->pad, s->stride), bw = ceil_div(s->w + s->pad, s->stride);
    int across = THREADS / (fold->folded.c / WIDE), tiles = ceil_div(bw, across);
    struct unfolding a = { *fold, *e, result, folded, image, bh, across, tiles };
    RUN_TYPED(unfold_image, q->type, 1, (size_t)s->n * bh * tiles, 1, q, a);
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
    int g = (row % s->stride * s->stride + column % s->stride) * s->c + c;
    size_t d = t / s->c / s->k / s->k;
    float alpha = a->alpha_there ? *a->alpha_there : a->alpha;
    float v;
    load(a->from, ((d * b->k + row / s->stride) * b->k + column / s->stride) * b->c + g, a->type, 1, &v);
    a->dw[t] += alpha * v;
}
KERNEL(unfold_gradients, gradient, unfold_gradient(&a))

void kernel_unfold_gradient(const struct queue *q, const struct fold *fold, enum element type, const void *folded, float alpha,
                            const float *alpha_there, float *dw)
{
    struct gradient a = { *fold, type, folded, dw, alpha, alpha_there };
    RUN(unfold_gradients, blocks_for(conv_weight_count(&fold->shape)), 1, q, a);
}
