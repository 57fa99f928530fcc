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

/* A single image is a power iteration's: its weights would be packed for two uses only. */
static bool fits(const struct conv_shape *s, enum conv_use use)
{
    return use == CONV_ADJOINT && s->n > 1 && s->c <= FEW_CHANNELS;
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

/* Adds one row's products of taps (a, .) to a row of the image, `row` being its column 0. */
static void add_taps(const struct conv_shape *s, const float *products, int a, float *row)
{
    int span = s->k * s->c, step = panels_of(s) * PANEL;
    float *to = row - (ptrdiff_t)s->pad * s->c;
    const float *from = products + a * span;
    for (int column = 0; column < conv_out_w(s); column++, from += step, to += (size_t)s->stride * s->c)
        for (int i = 0; i < span; i++)
            to[i] += from[i];
}

static void run_image(const struct conv_shape *s, int image, const float *in, const float *packed, const struct epilogue *e,
                      float *scratch, float *out)
{
    float *products = scratch, *rows = scratch + product_row(s);
    int h = conv_out_h(s), margin = s->k * s->c, done = 0; /* rows of the image */
    memset(rows, 0, s->k * image_row(s) * sizeof *rows);
    for (int y = 0; y <= h; y++) {
        int top = y * s->stride - s->pad, final = y < h && top < s->h ? top : s->h;
        for (; done < final; done++) { /* the codes to come do not reach it */
            float *row = rows + done % s->k * image_row(s);
            finish_row(e, row + margin, s->w * s->c, ((size_t)image * s->h + done) * s->w * s->c, out);
            memset(row, 0, image_row(s) * sizeof *row);
        }
        if (y == h)
            break;
        multiply_row(s, in + ((size_t)image * h + y) * conv_out_w(s) * s->d, packed, products);
        for (int a = 0; a < s->k; a++)
            if (top + a >= 0 && top + a < s->h)
                add_taps(s, products, a, rows + (top + a) % s->k * image_row(s) + margin);
    }
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct epilogue e = with_nu(epilogue);
    (void)use;
    (void)threads;
#pragma omp parallel for schedule(static)
    for (int image = 0; image < s->n; image++)
        run_image(s, image, in, packed, &e, (float *)scratch + thread_number() * thread_floats(s), out);
}

const struct own_kernels FEW = {
    .fits = fits,
    .packed_bytes = packed_bytes,
    .scratch_bytes = scratch_bytes,
    .pack = pack,
    .run = run,
};
