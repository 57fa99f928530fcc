/* elementwise.cu - conversions, masks, linear combinations and the epilogues of convolutions. */
#include "layers/backend/cuda/kernels/kernel.h"

#include <cuda_runtime_api.h>

/* ---- flat: each thread has VECTOR elements ---- */

DEVICE size_t flat_index(void)
{
    return ((size_t)blockIdx.x * THREADS + threadIdx.x) * VECTOR;
}

static size_t flat_blocks(size_t count)
{
    return blocks_for((count + VECTOR - 1) / VECTOR);
}

/* float <-> activation. Cost: 6 bytes (bf16), no flops; 90% of the bandwidth. */
struct convert {
    const void *from;
    void *to;
    size_t count;
    bool up; /* to float */
};

DEVICE void convert(const struct convert *a, enum element type, int width)
{
    float v[VECTOR];
    size_t i = flat_index();
    if (i >= a->count)
        return;
    load_flat(a->from, i, a->count, a->up ? type : F32, width, v);
    store_flat(a->to, i, a->count, a->up ? F32 : type, width, v);
}
KERNELS(convert, convert)

int kernels_check_code(void)
{
    struct cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, (const void *)convert_f1);
}

static void run_convert(const struct queue *q, const void *from, void *to, size_t count, bool up)
{
    struct convert a = { from, to, count, up };
    if (count > 0)
        RUN_TYPED(convert, q->type, aligned16(from) && aligned16(to) ? VECTOR : 1, flat_blocks(count), 1, q, a);
}

void kernel_to_activation(const struct queue *q, const float *from, void *to, size_t count)
{
    run_convert(q, from, to, count, false);
}

void kernel_from_activation(const struct queue *q, const void *from, float *to, size_t count)
{
    run_convert(q, from, to, count, true);
}

/* out = a x + b y. Cost: 6 bytes (bf16) or 12 (fp32), 3 flops; 90% of the bandwidth. */
struct combine {
    const void *x, *y;
    void *out;
    size_t count;
    float a, b;
};

DEVICE void combine(const struct combine *a, enum element type, int width)
{
    float x[VECTOR], y[VECTOR];
    size_t i = flat_index();
    if (i >= a->count)
        return;
    load_flat(a->x, i, a->count, type, width, x);
    if (a->b != 0) {
        load_flat(a->y, i, a->count, type, width, y);
        for (int k = 0; k < VECTOR; k++)
            x[k] = a->a * x[k] + a->b * y[k];
    } else {
        for (int k = 0; k < VECTOR; k++)
            x[k] = a->a * x[k];
    }
    store_flat(a->out, i, a->count, type, width, x);
}
KERNELS(combine, combine)

static void run_combine(const struct queue *q, enum element type, const struct combine *a)
{
    bool wide = aligned16(a->x) && aligned16(a->y) && aligned16(a->out);
    if (a->count > 0)
        RUN_TYPED(combine, type, wide ? VECTOR : 1, flat_blocks(a->count), 1, q, *a);
}

void kernel_axpby_act(const struct queue *q, float a, const void *x, float b, const void *y, void *out, size_t count)
{
    struct combine c = { x, y, out, count, a, b };
    run_combine(q, q->type, &c);
}

void kernel_axpby_f32(const struct queue *q, float a, const float *x, float b, const float *y, float *out, size_t count)
{
    struct combine c = { x, y, out, count, a, b };
    run_combine(q, F32, &c);
}

/* dw += the sum of alpha times gradient. Cost: 8 bytes, and for each term 2 bytes (bf16) and 2 flops; 90% of the
 * bandwidth. */
struct gradients {
    const char *first;
    size_t stride, weights;
    float alpha[CONV_TERMS];
    const float *alpha_device[CONV_TERMS]; /* device memory; NULL: alpha is used */
    int count;
    float *dw;
};

DEVICE void add_gradients(const struct gradients *a, enum element type, int width)
{
    float sum[VECTOR], v[VECTOR];
    size_t i = flat_index();
    if (i >= a->weights)
        return;
    load_flat(a->dw, i, a->weights, F32, width, sum);
    for (int t = 0; t < CONV_TERMS; t++) {
        if (t >= a->count)
            break;
        float alpha = a->alpha_device[t] ? *a->alpha_device[t] : a->alpha[t];
        load_flat(a->first + t * a->stride, i, a->weights, type, width, v);
        for (int k = 0; k < VECTOR; k++)
            sum[k] += alpha * v[k];
    }
    store_flat(a->dw, i, a->weights, F32, width, sum);
}
KERNELS(add_gradients, gradients)

void kernel_add_gradients(const struct queue *q, enum element type, const void *gradients, size_t stride,
                          const struct gradient_term *terms, int count, float *dw, size_t weights)
{
    struct gradients a = { (const char *)gradients, stride, weights, { 0 }, { NULL }, count, dw };
    for (int t = 0; t < count; t++) {
        a.alpha[t] = terms[t].alpha;
        a.alpha_device[t] = terms[t].device_alpha;
    }
    int width = aligned16(gradients) && stride % 16 == 0 && aligned16(dw) ? VECTOR : 1;
    RUN_TYPED(add_gradients, type, width, flat_blocks(weights), 1, q, a);
}

/* out = nu in where the mask is not 0. Cost: 6 bytes (bf16), or 4 1/8 with a mask of bits, 1 flop; 90% of the
 * bandwidth. */
struct masked {
    const void *in, *mask;
    const uint8_t *bits;
    void *out;
    size_t count;
    float nu;
    const float *nu_device; /* device memory; NULL: nu is used */
};

DEVICE void masked(const struct masked *a, enum element type, int width)
{
    float v[VECTOR], m[VECTOR];
    size_t i = flat_index();
    if (i >= a->count)
        return;
    float nu = a->nu_device ? *a->nu_device : a->nu;
    load_flat(a->in, i, a->count, type, width, v);
    if (a->bits) {
        unsigned byte = a->bits[i / VECTOR];
        for (int k = 0; k < VECTOR; k++)
            m[k] = (float)(byte >> k & 1);
    } else {
        load_flat(a->mask, i, a->count, type, width, m);
    }
    for (int k = 0; k < VECTOR; k++)
        v[k] = m[k] != 0 ? nu * v[k] : 0;
    store_flat(a->out, i, a->count, type, width, v);
}
KERNELS(masked, masked)

void kernel_mask(const struct queue *q, const void *in, const void *mask, const uint8_t *bits, float nu,
                 const float *nu_device, void *out, size_t count)
{
    struct masked a = { in, mask, bits, out, count, nu, nu_device };
    if (count > 0)
        RUN_TYPED(masked, q->type, aligned16(in) && aligned16(mask) && aligned16(out) ? VECTOR : 1, flat_blocks(count),
                  1, q, a);
}

/* Writes three scalars. Cost: the latency of a launch. */
struct scalars {
    float *to, a, b, c;
};

DEVICE void write_scalars(const struct scalars *n)
{
    if (threadIdx.x == 0 && blockIdx.x == 0)
        n->to[0] = n->a, n->to[1] = n->b, n->to[2] = n->c;
}
KERNEL(write_scalars_once, scalars, write_scalars(&a))

void kernel_write_scalars(const struct queue *q, float *to, float a, float b, float c)
{
    struct scalars n = { to, a, b, c };
    RUN(write_scalars_once, 1, 1, q, n);
}

/* ---- epilogue of a convolution ---- */

/* out = f(alpha conv + beta add), and, for a code, its mask as bits and the channels' sums for the batch norm that
 * follows. Cost (bf16): 2 to 6 bytes read, 2 1/8 written, 6 flops; 85% of the bandwidth. */
enum { EPILOGUE_BLOCKS = 4 };

struct epilogue_pass {
    struct epilogue e;
    enum element result;
    const void *conv;
    void *out;
    uint8_t *bits;   /* only with VECTOR channels a thread */
    float *partials; /* (blocks, 2, c) */
    struct columns s;
};

DEVICE void epilogue_pass(const struct epilogue_pass *a, enum element type, int width)
{
    SHARED(float, shared, VECTOR *THREADS);
    int c = column_of(&a->s, width);
    float v[VECTOR], sum[VECTOR], square[VECTOR];
    const struct epilogue e = resolve_scalars(&a->e);
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
KERNELS_MIN_BLOCKS(EPILOGUE_BLOCKS, epilogue_pass, epilogue_pass)

int kernel_epilogue(const struct queue *q, const struct epilogue *e, enum element result, const void *conv, void *out,
                    size_t rows, int c, uint8_t *bits, bool statistics)
{
    bool wide = aligned16(conv) && aligned16(out) && aligned16(e->add) &&
                (e->kind != EPILOGUE_MASK || aligned16(e->mask));
    int width = column_width(c, wide);
    struct column_grid grid = column_grid(q, rows, c, width, 1, EPILOGUE_BLOCKS, statistics);
    struct epilogue_pass a = {
        *e, result, conv, out, width == VECTOR ? bits : NULL, statistics ? (float *)q->partials : NULL, grid.s
    };
    RUN_TYPED(epilogue_pass, q->type, width, grid.x, grid.y, q, a);
    return statistics ? grid.x : 0;
}
