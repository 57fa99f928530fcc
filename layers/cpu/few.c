/* few.c - adjoints towards images of few channels, compiled once per instruction set (FEW names the table). Codes are
 * multiplied by all taps at once, so that registers are full of columns, and what comes of each is added where it belongs:
 *   P (pixel, k k C) = z (pixel, D) W (D, k k C)     image (s y + a - pad, s x + b - pad, c) += P (y, x; a, b, c) */
#include "layers/cpu/few.h"

#include "layers/cpu/finish.h"
#include "layers/cpu/threads.h"

#if defined(__AVX512F__)
enum { PIXELS = 8 }; /* of a product, held in registers */
#else
enum { PIXELS = 6 };
#endif
enum { PANEL = 2 * WIDTH, FEW_CHANNELS = 8 }; /* columns of a product */

static bool fits(const struct conv_shape *s, enum conv_use use)
{
    return use == CONV_ADJOINT && s->c <= FEW_CHANNELS;
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

static void pack(const struct conv_shape *s, enum conv_use use, const float *weights, void *packed)
{
    int columns = columns_of(s);
    float *to = packed;
    (void)use;
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

/* A row of codes (W',D): products (W', panels, PANEL). */
static void multiply_row(const struct conv_shape *s, const float *codes, const float *packed, float *products)
{
    int w = conv_out_w(s), panels = panels_of(s);
    for (int panel = 0; panel < panels; panel++)
        for (int column = 0; column < w; column += PIXELS) {
            const float *in[PIXELS];
            vec sums[PIXELS][2];
            for (int p = 0; p < PIXELS; p++) /* behind the last one it is read again, and not stored */
                in[p] = codes + (size_t)(column + p < w ? column + p : w - 1) * s->d;
            multiply(in, packed + (size_t)panel * s->d * PANEL, s->d, sums);
            for (int p = 0; p < PIXELS && column + p < w; p++) {
                float *to = products + ((size_t)(column + p) * panels + panel) * PANEL;
                store(to, sums[p][0]);
                store(to + WIDTH, sums[p][1]);
            }
        }
}

/* ---- images ---- */

/* A thread's scratch: a row of products, and k rows of the image with k pixels on both sides. */
static size_t product_row(const struct conv_shape *s)
{
    return (size_t)conv_out_w(s) * panels_of(s) * PANEL;
}

static size_t image_row(const struct conv_shape *s)
{
    return (size_t)(s->w + 2 * s->k) * s->c;
}

static size_t thread_floats(const struct conv_shape *s)
{
    return (product_row(s) + s->k * image_row(s) + 2 * PANEL) / PANEL * PANEL;
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    (void)use;
    return threads * thread_floats(s) * sizeof(float);
}

/* f of `count` floats, which begin at float `at` of the output. */
static void finish_row(const struct epilogue *e, const float *sums, int count, size_t at, float *out)
{
    int i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        store(out + at + i, finish(e, load(sums + i), at + i));
    if (i < count) {
        float v[WIDTH] = { 0 }, add[WIDTH] = { 0 }, mask[WIDTH] = { 0 };
        struct epilogue tail = *e;
        size_t bytes = (count - i) * sizeof *v;
        memcpy(v, sums + i, bytes);
        if (e->add)
            tail.add = memcpy(add, (const float *)e->add + at + i, bytes);
        if (e->mask)
            tail.mask = memcpy(mask, (const float *)e->mask + at + i, bytes);
        store(v, finish(&tail, load(v), 0));
        memcpy(out + at + i, v, bytes);
    }
}

/* Adds one row's products of taps (a, .) to a row of the image, `row` being its column 0. Neighbours add to the same floats,
 * so columns are taken that far apart: what was just written is not read at once. */
static void add_taps(const struct conv_shape *s, const float *products, int a, float *row)
{
    int w = conv_out_w(s), span = s->k * s->c, apart = (s->k + s->stride - 1) / s->stride;
    size_t step = (size_t)panels_of(s) * PANEL;
    for (int first = 0; first < apart; first++)
        for (int column = first; column < w; column += apart) {
            const float *from = products + column * step + a * span;
            float *to = row + ((ptrdiff_t)column * s->stride - s->pad) * s->c;
            for (int i = 0; i < span; i++)
                to[i] += from[i];
        }
}

/* Rows [from, to) of an image. */
static void run_rows(const struct conv_shape *s, int image, int from, int to, const float *in, const float *packed,
                     const struct epilogue *e, float *scratch, float *out)
{
    float *products = scratch, *rows = scratch + product_row(s);
    int first = from + s->pad - s->k + 1, margin = s->k * s->c, done = from;
    first = first < 0 ? 0 : (first + s->stride - 1) / s->stride;
    int last = (to - 1 + s->pad) / s->stride; /* row of codes that reaches these */
    last = last < conv_out_h(s) ? last : conv_out_h(s) - 1;
    memset(rows, 0, s->k * image_row(s) * sizeof *rows);
    for (int y = first; y <= last + 1; y++) {
        int top = y * s->stride - s->pad, final = y <= last && top < to ? top : to;
        for (; done < final; done++) { /* the codes to come do not reach it */
            float *row = rows + done % s->k * image_row(s);
            finish_row(e, row + margin, s->w * s->c, ((size_t)image * s->h + done) * s->w * s->c, out);
            memset(row, 0, image_row(s) * sizeof *row);
        }
        if (y > last)
            break;
        multiply_row(s, in + ((size_t)image * conv_out_h(s) + y) * conv_out_w(s) * s->d, packed, products);
        for (int a = 0; a < s->k; a++)
            if (top + a >= from && top + a < to)
                add_taps(s, products, a, rows + (top + a) % s->k * image_row(s) + margin);
    }
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct epilogue e = with_nu(epilogue);
    int spans = s->n % threads == 0 ? 1 : threads < s->h ? threads : s->h; /* of an image */
    (void)use;
#pragma omp parallel for schedule(static)
    for (int unit = 0; unit < s->n * spans; unit++) {
        int span = unit % spans;
        run_rows(s, unit / spans, s->h * span / spans, s->h * (span + 1) / spans, in, packed, &e,
                 (float *)scratch + thread_number() * thread_floats(s), out);
    }
}

const struct own_kernels FEW = {
    .fits = fits,
    .packed_bytes = packed_bytes,
    .scratch_bytes = scratch_bytes,
    .pack = pack,
    .run = run,
};
