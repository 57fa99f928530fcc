/* col2im.h - adds the products of codes with all taps of the kernel to images; few_channels.c and bf16_few_channels.c
 * compute the products.
 *   P (pixel, k k C) = z (pixel, D) W (D, k k C)     image (s y + a - pad, s x + b - pad, c) += P (y, x; a, b, c) */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_COL2IM_H
#define CSC_LAYERS_BACKEND_CPU_ISA_COL2IM_H

#include <string.h>

#include "layers/backend/backend.h"
#include "layers/backend/cpu/isa/vector.h"
#include "layers/backend/cpu/threads.h"

enum { COL2IM_MAX_CHANNELS = 8 }; /* channels of an image */

struct col2im {
    const struct conv_shape *shape;
    const struct epilogue *epilogue;
    const void *in, *packed;
    void *out;
    size_t pixel_stride; /* floats from one pixel of P to the next */
    int block;           /* pixels at a time; their part of P stays in the L1 cache */
    /* Computes P for the pixels [column, column + count) of a row of codes. Rows are counted over all images. */
    void (*multiply)(const struct col2im *m, size_t row, int column, int count, float *products);
    /* Applies the epilogue to `count` sums and stores them from value `at` of the output on. */
    void (*finish)(const struct col2im *m, const float *sums, int count, size_t at);
};

/* A thread's scratch holds a block of products, and k rows of the image with k pixels of margin on either side. */
static inline size_t col2im_row_floats(const struct conv_shape *s)
{
    return (size_t)(s->w + 2 * s->k) * s->c;
}

static inline size_t col2im_scratch_floats(const struct conv_shape *s, size_t pixel_stride, int block)
{
    size_t floats = block * pixel_stride + s->k * col2im_row_floats(s);
    return floats / 64 * 64 + 128;
}

/* Adds a block's products of the kernel's row a to a row of the image, whose column 0 is at `row`. Whole registers
 * are added, with zeros past the last tap. Neighbouring pixels add to the same floats; pixels `distance` apart do
 * not, and are taken one after another so that no load waits for the store before it. */
static inline void col2im_add_row(const struct col2im *m, const float *products, int column, int count, int a,
                                  float *row)
{
    const struct conv_shape *s = m->shape;
    int span = s->k * s->c, padded_span = (span + WIDTH - 1) / WIDTH * WIDTH;
    int distance = (padded_span + s->stride * s->c - 1) / (s->stride * s->c);
    ivec last; /* -1 for the floats of the last register that belong to a tap */
    for (int i = 0; i < WIDTH; i++)
        last[i] = padded_span - WIDTH + i < span ? -1 : 0;
    for (int first = 0; first < distance; first++)
        for (int p = first; p < count; p += distance) {
            const float *from = products + p * m->pixel_stride + a * span;
            float *to = row + ((ptrdiff_t)(column + p) * s->stride - s->pad) * s->c;
            for (int i = 0; i < padded_span - WIDTH; i += WIDTH)
                store(to + i, load(to + i) + load(from + i));
            from += padded_span - WIDTH;
            to += padded_span - WIDTH;
            store(to, load(to) + (vec)((ivec)load(from) & last));
        }
}

/* Computes rows [from, to) of an image. */
static inline void col2im_rows(const struct col2im *m, int image, int from, int to, float *products)
{
    const struct conv_shape *s = m->shape;
    float *rows = products + m->block * m->pixel_stride;
    int w = conv_out_w(s), first = from + s->pad - s->k + 1, margin = s->k * s->c, next_row = from;
    first = first < 0 ? 0 : (first + s->stride - 1) / s->stride;
    int last = (to - 1 + s->pad) / s->stride; /* last row of codes that adds to these rows */
    last = last < conv_out_h(s) ? last : conv_out_h(s) - 1;
    memset(rows, 0, s->k * col2im_row_floats(s) * sizeof *rows);
    for (int y = first; y <= last + 1; y++) {
        int top = y * s->stride - s->pad, final = y <= last && top < to ? top : to;
        for (; next_row < final; next_row++) { /* no further row of codes adds to it */
            float *row = rows + next_row % s->k * col2im_row_floats(s);
            m->finish(m, row + margin, s->w * s->c, ((size_t)image * s->h + next_row) * s->w * s->c);
            memset(row, 0, col2im_row_floats(s) * sizeof *row);
        }
        if (y > last)
            break;
        for (int column = 0; column < w; column += m->block) {
            int count = w - column < m->block ? w - column : m->block;
            m->multiply(m, (size_t)image * conv_out_h(s) + y, column, count, products);
            for (int a = 0; a < s->k; a++)
                if (top + a >= from && top + a < to)
                    col2im_add_row(m, products, column, count, a,
                                   rows + (top + a) % s->k * col2im_row_floats(s) + margin);
        }
    }
}

/* In how many parts an image is divided among threads. */
static inline int col2im_spans(const struct conv_shape *s, int threads)
{
    return s->n % threads == 0 ? 1 : threads < s->h ? threads : s->h;
}

/* Computes all images. Called by every thread of a parallel region. */
static inline void col2im_run(const struct col2im *m, int threads, float *scratch)
{
    const struct conv_shape *s = m->shape;
    int spans = col2im_spans(s, threads);
    float *thread_scratch = scratch + thread_number() * col2im_scratch_floats(s, m->pixel_stride, m->block);
#pragma omp for schedule(static)
    for (int unit = 0; unit < s->n * spans; unit++) {
        int span = unit % spans;
        col2im_rows(m, unit / spans, s->h * span / spans, s->h * (span + 1) / spans, thread_scratch);
    }
}

#endif
