/* few_channels.c - adjoints towards images of few channels. Codes are multiplied by all taps at once, so that the
 * columns of the product fill registers; col2im.h adds the products to images.
 * Compiled once per instruction set (base/isa.h). */
#include "layers/backend/cpu/isa/algorithms.h"

#include "layers/backend/cpu/isa/epilogue.h"
#include "layers/backend/cpu/isa/col2im.h"

#if defined(__AVX512F__)
enum { PIXELS = 8 }; /* pixels of a product, held in registers */
#else
enum { PIXELS = 6 };
#endif
enum {
    PANEL = 2 * WIDTH, /* columns of a product, held in registers */
    BLOCK = 24,        /* pixels between two calls of col2im_add_row */
};

/* With fewer atoms the additions would cost more than the products. */
static bool fits(const struct conv_shape *s, enum conv_use use)
{
    return use == CONV_ADJOINT && s->c <= COL2IM_MAX_CHANNELS && s->d >= 32;
}

static int columns_of(const struct conv_shape *s)
{
    return s->k * s->k * s->c;
}

static int panels_of(const struct conv_shape *s)
{
    return (columns_of(s) + PANEL - 1) / PANEL;
}

/* ---- the weights, packed: (panel, D, PANEL) ---- */

static size_t packed_bytes(const struct conv_shape *s, enum conv_use use)
{
    (void)use;
    return (size_t)panels_of(s) * s->d * PANEL * sizeof(float);
}

static void pack(const struct conv_shape *s, enum conv_use use, const float *weights, void *packed, void *scratch)
{
    int columns = columns_of(s);
    float *to = packed;
    (void)use, (void)scratch;
    for (int panel = 0; panel < panels_of(s); panel++)
        for (int i = 0; i < s->d; i++, to += PANEL) {
            int at = panel * PANEL, count = columns - at < PANEL ? columns - at : PANEL;
            memset(to, 0, PANEL * sizeof *to);
            memcpy(to, weights + (size_t)i * columns + at, count * sizeof *to);
        }
}

/* ---- products ---- */

/* sums (PIXELS, PANEL) = in (PIXELS, d) w (d, PANEL) */
static inline void multiply(const float *const in[PIXELS], const float *w, int d, vec sums[PIXELS][2])
{
    vec s[PIXELS][2] = { 0 };
    for (int i = 0; i < d; i++, w += PANEL) {
        vec left = load(w), right = load(w + WIDTH);
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p++) {
            s[p][0] += in[p][i] * left;
            s[p][1] += in[p][i] * right;
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < PIXELS; p++) {
        sums[p][0] = s[p][0];
        sums[p][1] = s[p][1];
    }
}

static size_t pixel_stride_of(const struct conv_shape *s)
{
    return (size_t)panels_of(s) * PANEL;
}

static void multiply_block(const struct col2im *m, size_t row, int column, int count, float *products)
{
    const struct conv_shape *s = m->shape;
    const float *codes = (const float *)m->in + (row * conv_out_w(s) + column) * s->d;
    for (int panel = 0; panel < panels_of(s); panel++)
        for (int at = 0; at < count; at += PIXELS) {
            const float *in[PIXELS];
            vec sums[PIXELS][2];
            for (int p = 0; p < PIXELS; p++) /* past the last pixel, it is read again and not stored */
                in[p] = codes + (size_t)(at + p < count ? at + p : count - 1) * s->d;
            multiply(in, (const float *)m->packed + (size_t)panel * s->d * PANEL, s->d, sums);
            for (int p = 0; p < PIXELS && at + p < count; p++) {
                float *to = products + (at + p) * m->pixel_stride + (size_t)panel * PANEL;
                store(to, sums[p][0]);
                store(to + WIDTH, sums[p][1]);
            }
        }
}

/* ---- images ---- */

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    (void)use;
    return threads * col2im_scratch_floats(s, pixel_stride_of(s), BLOCK) * sizeof(float);
}

static void finish_row(const struct col2im *m, const float *sums, int count, size_t at)
{
    const struct epilogue *e = m->epilogue;
    float *out = m->out;
    int i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        store(out + at + i, epilogue_apply(e, load(sums + i), at + i));
    if (i < count) {
        float v[WIDTH] = { 0 }, add[WIDTH] = { 0 }, mask[WIDTH] = { 0 };
        struct epilogue tail = *e;
        size_t bytes = (count - i) * sizeof *v;
        memcpy(v, sums + i, bytes);
        if (e->add)
            tail.add = memcpy(add, (const float *)e->add + at + i, bytes);
        if (e->mask)
            tail.mask = memcpy(mask, (const float *)e->mask + at + i, bytes);
        store(v, epilogue_apply(&tail, load(v), 0));
        memcpy(out + at + i, v, bytes);
    }
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct epilogue e = epilogue_fold_nu(epilogue);
    struct col2im m = { s, &e, in, packed, out, pixel_stride_of(s), BLOCK, multiply_block, finish_row };
    (void)use;
#pragma omp parallel
    col2im_run(&m, threads, scratch);
}

const struct conv_algorithm ISA_NAME(few_channels) = {
    .name = "few_channels",
    .fits = fits,
    .packed_bytes = packed_bytes,
    .scratch_bytes = scratch_bytes,
    .pack = pack,
    .run = run,
};
