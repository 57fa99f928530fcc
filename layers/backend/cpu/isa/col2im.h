/* few_channels_products.h - what few_channels.c and bf16_few_channels.c share: images from products of codes with all
 * taps. P (pixel, k k C) = z (pixel, D) W (D, k k C)     image (s y + a - pad, s x + b - pad, c) += P (y, x; a, b, c)
 */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_COL2IM_H
#define CSC_LAYERS_BACKEND_CPU_ISA_COL2IM_H

#include <string.h>

#include "layers/backend/cpu/isa/direct.h"
#include "layers/backend/cpu/isa/vector.h"
#include "layers/backend/cpu/threads.h"

enum { COL2IM_MAX_CHANNELS = 8 }; /* channels of the image */

struct col2im {
    const struct conv_shape *shape;
    const struct epilogue *epilogue;
    const void *in, *packed;
    void *out;
    size_t pixel_stride; /* floats of P from pixel to pixel */
    int block;           /* pixels at a time, whose P stays in the nearest cache */
    /* P of the pixels [column, column + count) in one row of codes, the row'th of all images. */
    void (*multiply)(const struct col2im *m, size_t row, int column, int count, float *products);
    /* f of `count` sums, which begin at value `at` of the output. */
    void (*finish)(const struct col2im *m, const float *sums, int count, size_t at);
};

/* A thread's scratch: a block of products, and k rows of the image with k pixels on both sides. */
static inline size_t col2im_row_floats(const struct conv_shape *s)
{
    return (size_t)(s->w + 2 * s->k) * s->c;
}

static inline size_t col2im_scratch_floats(const struct conv_shape *s, size_t pixel_stride, int block)
{
    size_t floats = block * pixel_stride + s->k * col2im_row_floats(s);
    return floats / 64 * 64 + 128;
}

/* Adds a block's products of taps (a, .) to a row of the image, `row` being its column 0, in whole registers: behind
 * the last tap zeros are added. Neighbours add to the same floats, so columns are taken that far apart: what was just
 * written is not read at once. */
static inline void col2im_add_row(const struct col2im *m, const float *products, int column, int count, int a,
                                  float *row)
{
    const struct conv_shape *s = m->shape;
    int span = s->k * s->c, whole = (span + WIDTH - 1) / WIDTH * WIDTH;
    int distance = (whole + s->stride * s->c - 1) / (s->stride * s->c);
    ivec last; /* of the last register's floats those that belong to a tap */
    for (int i = 0; i < WIDTH; i++)
        last[i] = whole - WIDTH + i < span ? -1 : 0;
    for (int first = 0; first < distance; first++)
        for (int p = first; p < count; p += distance) {
            const float *from = products + p * m->pixel_stride + a * span;
            float *to = row + ((ptrdiff_t)(column + p) * s->stride - s->pad) * s->c;
            for (int i = 0; i < whole - WIDTH; i += WIDTH)
                store(to + i, load(to + i) + load(from + i));
            from += whole - WIDTH;
            to += whole - WIDTH;
            store(to, load(to) + (vec)((ivec)load(from) & last));
        }
}

/* Rows [from, to) of an image. */
static inline void col2im_rows(const struct col2im *m, int image, int from, int to, float *products)
{
    const struct conv_shape *s = m->shape;
    float *rows = products + m->block * m->pixel_stride;
    int w = conv_out_w(s), first = from + s->pad - s->k + 1, margin = s->k * s->c, done = from;
    first = first < 0 ? 0 : (first + s->stride - 1) / s->stride;
    int last = (to - 1 + s->pad) / s->stride; /* row of codes that reaches these */
    last = last < conv_out_h(s) ? last : conv_out_h(s) - 1;
    memset(rows, 0, s->k * col2im_row_floats(s) * sizeof *rows);
    for (int y = first; y <= last + 1; y++) {
        int top = y * s->stride - s->pad, final = y <= last && top < to ? top : to;
        for (; done < final; done++) { /* the codes to come do not reach it */
            float *row = rows + done % s->k * col2im_row_floats(s);
            m->finish(m, row + margin, s->w * s->c, ((size_t)image * s->h + done) * s->w * s->c);
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

/* The parts of an image that threads take. */
static inline int col2im_spans(const struct conv_shape *s, int threads)
{
    return s->n % threads == 0 ? 1 : threads < s->h ? threads : s->h;
}

/* All of it, by the threads of a parallel region. */
static inline void col2im_run(const struct col2im *m, int threads, float *scratch)
{
    const struct conv_shape *s = m->shape;
    int spans = col2im_spans(s, threads);
    float *mine = scratch + thread_number() * col2im_scratch_floats(s, m->pixel_stride, m->block);
#pragma omp for schedule(static)
    for (int unit = 0; unit < s->n * spans; unit++) {
        int span = unit % spans;
        col2im_rows(m, unit / spans, s->h * span / spans, s->h * (span + 1) / spans, mine);
    }
}

#endif
