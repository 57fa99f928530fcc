/* elementwise.cu - conversions, epilogues of convolutions, masks, linear combinations. */
#include "layers/backend/cuda/kernels/kernel.h"

#include <cuda_runtime_api.h>

/* ---- flat: a thread takes 8 elements ---- */

DEVICE size_t flat_index(void)
{
    return ((size_t)blockIdx.x * THREADS + threadIdx.x) * WIDE;
}

static size_t flat_blocks(size_t count)
{
    return blocks_for((count + WIDE - 1) / WIDE);
}

/* float <-> activation: 6 bytes an element with bf16, no flops; 90% of the bandwidth. */
struct convert {
    const void *from;
    void *to;
    size_t count;
    bool up; /* to float */
};

DEVICE void convert(const struct convert *a, enum element type, int width)
{
    float v[WIDE];
    size_t i = flat_index();
    if (i >= a->count)
        return;
    load_flat(a->from, i, a->count, a->up ? type : F32, width, v);
    store_flat(a->to, i, a->count, a->up ? F32 : type, width, v);
}
KERNELS(convert, convert)

int kernels_look_up(void)
{
    struct cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, (const void *)convert_f1);
}

static void run_convert(const struct queue *q, const void *from, void *to, size_t count, bool up)
{
    struct convert a = { from, to, count, up };
    if (count > 0)
        RUN_TYPED(convert, q->type, aligned16(from) && aligned16(to) ? WIDE : 1, flat_blocks(count), 1, q, a);
}

void kernel_to_activation(const struct queue *q, const float *from, void *to, size_t count)
{
    run_convert(q, from, to, count, false);
}

void kernel_from_activation(const struct queue *q, const void *from, float *to, size_t count)
{
    run_convert(q, from, to, count, true);
}

/* out = a x + b y: 6 bytes (bf16) or 12 (fp32) and 3 flops an element; 90% of the bandwidth. */
struct combine {
    const void *x, *y;
    void *out;
    size_t count;
    float a, b;
};

DEVICE void combine(const struct combine *a, enum element type, int width)
{
    float x[WIDE], y[WIDE];
    size_t i = flat_index();
    if (i >= a->count)
        return;
    load_flat(a->x, i, a->count, type, width, x);
    if (a->b != 0) {
        load_flat(a->y, i, a->count, type, width, y);
        for (int k = 0; k < WIDE; k++)
            x[k] = a->a * x[k] + a->b * y[k];
    } else {
        for (int k = 0; k < WIDE; k++)
            x[k] = a->a * x[k];
    }
    store_flat(a->out, i, a->count, type, width, x);
}
KERNELS(combine, combine)

static void run_combine(const struct queue *q, enum element type, const struct combine *a)
{
    bool wide = aligned16(a->x) && aligned16(a->y) && aligned16(a->out);
    if (a->count > 0)
        RUN_TYPED(combine, type, wide ? WIDE : 1, flat_blocks(a->count), 1, q, *a);
}

void kernel_blend(const struct queue *q, float a, const void *x, float b, const void *y, void *out, size_t count)
{
    struct combine c = { x, y, out, count, a, b };
    run_combine(q, q->type, &c);
}

void kernel_lincomb(const struct queue *q, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    struct combine c = { x, y, out, count, a, b };
    run_combine(q, F32, &c);
}

/* dw += the sum of alpha gradient: 8 bytes and, of a bf16 gradient, 2 and 2 flops a term and element; 90%. */
struct gradients {
    const char *first;
    size_t apart, weights;
    float alpha[CONV_TERMS];
    const float *there[CONV_TERMS]; /* device, not NULL: alpha is there */
    int count;
    float *dw;
};

DEVICE void add_gradients(const struct gradients *a, enum element type, int width)
{
    float sum[WIDE], v[WIDE];
    size_t i = flat_index();
    if (i >= a->weights)
        return;
    load_flat(a->dw, i, a->weights, F32, width, sum);
    for (int t = 0; t < CONV_TERMS; t++) {
        if (t >= a->count)
            break;
        float alpha = a->there[t] ? *a->there[t] : a->alpha[t];
        load_flat(a->first + t * a->apart, i, a->weights, type, width, v);
        for (int k = 0; k < WIDE; k++)
            sum[k] += alpha * v[k];
    }
    store_flat(a->dw, i, a->weights, F32, width, sum);
}
KERNELS(add_gradients, gradients)

void kernel_add_gradients(const struct queue *q, enum element type, const void *gradients, size_t apart,
                          const struct gradient_term *terms, int count, float *dw, size_t weights)
{
    struct gradients a = { (const char *)gradients, apart, weights, { 0 }, { NULL }, count, dw };
    for (int t = 0; t < count; t++) {
        a.alpha[t] = terms[t].alpha;
        a.there[t] = terms[t].number;
    }
    int width = aligned16(gradients) && apart % 16 == 0 && aligned16(dw) ? WIDE : 1;
    RUN_TYPED(add_gradients, type, width, flat_blocks(weights), 1, q, a);
}

/* out = nu in where the mask is not 0: 4 1/8 bytes (bf16, mask as bits) or 6 and 1 flop an element; 90%. */
struct masked {
    const void *in, *mask;
    const uint8_t *bits;
    void *out;
    size_t count;
    float nu;
    const float *nu_there; /* device, not NULL: nu is there */
};

DEVICE void masked(const struct masked *a, enum element type, int width)
{
    float v[WIDE], m[WIDE];
    size_t i = flat_index();
    if (i >= a->count)
        return;
    float nu = a->nu_there ? *a->nu_there : a->nu;
    load_flat(a->in, i, a->count, type, width, v);
    if (a->bits) {
        unsigned byte = a->bits[i / WIDE];
        for (int k = 0; k < WIDE; k++)
            m[k] = (float)(byte >> k & 1);
    } else {
        load_flat(a->mask, i, a->count, type, width, m);
    }
    for (int k = 0; k < WIDE; k++)
        v[k] = m[k] != 0 ? nu * v[k] : 0;
    store_flat(a->out, i, a->count, type, width, v);
}
KERNELS(masked, masked)

void kernel_mask(const struct queue *q, const void *in, const void *mask, const uint8_t *bits, float nu,
                 const float *nu_there, void *out, size_t count)
{
    struct masked a = { in, mask, bits, out, count, nu, nu_there };
    if (count > 0)
        RUN_TYPED(masked, q->type, aligned16(in) && aligned16(mask) && aligned16(out) ? WIDE : 1, flat_blocks(count), 1,
                  q, a);
}

/* Three numbers: the launch's latency. */
struct numbers {
    float *to, a, b, c;
};

DEVICE void numbers(const struct numbers *n)
{
    if (threadIdx.x == 0 && blockIdx.x == 0)
        n->to[0] = n->a, n->to[1] = n->b, n->to[2] = n->c;
}
KERNEL(write_numbers, numbers, numbers(&a))

void kernel_numbers(const struct queue *q, float *to, float a, float b, float c)
{
    struct numbers n = { to, a, b, c };
    RUN(write_numbers, 1, 1, q, n);
}

/* ---- epilogue of a convolution ---- */

/* out = f(alpha conv + beta add), and, of the code that is written, bits and per-channel sums for the batch norm
 * that follows. bf16: reads 2 to 6 and writes 2 1/8 bytes, 6 flops an element; 85% of the bandwidth. */
enum { AT_ONCE = 4 };

struct finish {
    struct epilogue e;
    enum element result;
    const void *conv;
    void *out;
    uint8_t *bits;   /* only with 8 channels a thread */
    float *partials; /* (blocks, 2, c) */
    struct columns s;
};

DEVICE void finish(const struct finish *a, enum element type, int width)
{
    SHARED(float, shared, WIDE *THREADS);
    int c = column_of(&a->s, width);
    float v[WIDE], sum[WIDE], square[WIDE];
    const struct epilogue e = with_numbers(&a->e);
    const enum walk walk = a->partials ? UP : DOWN;
    for (int k = 0; k < width; k++)
        sum[k] = square[k] = 0;
    for (size_t row = first_row(&a->s, walk); c < a->s.c && row < end_row(&a->s, walk); row += row_step(&a->s, walk)) {
        size_t i = row_at(&a->s, walk, row) * a->s.c + c;
        load(a->conv, i, a->result, width, v);
        apply_epilogue(&e, a->bits, i, type, width, v);
        for (int k = 0; k < width; k++) {
            sum[k] += v[k];
            square[k] += v[k] * v[k];
        }
        store(a->out, i, type, width, v);
    }
    if (!a->partials)
        return;
    column_sum(&a->s, width, sum, shared);
    column_sum(&a->s, width, square, shared);
    for (int k = 0; k < width && c < a->s.c && threadIdx.x < (unsigned)a->s.across; k++) {
        float *to = a->partials + (size_t)blockIdx.x * 2 * a->s.c + c + k;
        to[0] = sum[k];
        to[a->s.c] = square[k];
    }
}
KERNELS_AT_ONCE(AT_ONCE, finish, finish)

int kernel_epilogue(const struct queue *q, const struct epilogue *e, enum element result, const void *conv, void *out,
                    size_t rows, int c, uint8_t *bits, bool statistics)
{
    bool wide = aligned16(conv) && aligned16(out) && aligned16(e->add) &&
                (e->kind != EPILOGUE_MASK || aligned16(e->mask));
    int width = column_width(c, wide);
    struct column_grid grid = column_grid(q, rows, c, width, 1, AT_ONCE, statistics);
    struct finish a = { *e,    result, conv, out, width == WIDE ? bits : NULL, statistics ? (float *)q->partials : NULL,
                        grid.s };
    RUN_TYPED(finish, q->type, width, grid.x, grid.y, q, a);
    return statistics ? grid.x : 0;
}
