/* few_channels_products.h - what few_channels.c and bf16_few_channels.c share: images from products of codes with all
 * taps. P (pixel, k k C) = z (pixel, D) W (D, k k C)     image (s y + a - pad, s x + b - pad, c) += P (y, x; a, b, c)
 */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_FEW_CHANNELS_PRODUCTS_H
#define CSC_LAYERS_BACKEND_CPU_ISA_FEW_CHANNELS_PRODUCTS_H

#include <string.h>

#include "layers/backend/cpu/isa/direct.h"
#include "layers/backend/cpu/isa/vector.h"
#include "layers/backend/cpu/threads.h"

enum { MOST_FEW = 8 }; /* channels of the image */

struct few_rows {
    const struct conv_shape *shape;
    const struct epilogue *epilogue;
    const void *in, *packed;
    void *out;
    size_t step; /* floats of P from pixel to pixel */
    int block;   /* pixels at a time, whose P stays in the nearest cache */
    /* P of the pixels [column, column + count) in one row of codes, the row'th of all images. */
    void (*multiply)(const struct few_rows *f, size_t row, int column, int count, float *products);
    /* f of `count` sums, which begin at value `at` of the output. */
    void (*finish)(const struct few_rows *f, const float *sums, int count, size_t at);
};

/* A thread's scratch: a block of products, and k rows of the image with k pixels on both sides. */
static inline size_t few_image_row(const struct conv_shape *s)
{
    return (size_t)(s->w + 2 * s->k) * s->c;
}

static inline size_t few_floats(const struct conv_shape *s, size_t step, int block)
{
    size_t floats = block * step + s->k * few_image_row(s);
    return floats / 64 * 64 + 128;
}

/* Adds a block's products of taps (a, .) to a row of the image, `row` being its column 0, in whole registers: behind
 * the last tap zeros are added. Neighbours add to the same floats, so columns are taken that far apart: what was just
 * written is not read at once. */
static inline void few_add(const struct few_rows *f, const float *products, int column, int count, int a, float *row)
{
    const struct conv_shape *s = f->shape;
    int span = s->k * s->c, whole = (span + WIDTH - 1) / WIDTH * WIDTH;
    int apart = (whole + s->stride * s->c - 1) / (s->stride * s->c);
    ivec last; /* of the last register's floats those that belong to a tap */
    for (int i = 0; i < WIDTH; i++)
        last[i] = whole - WIDTH + i < span ? -1 : 0;
    for (int first = 0; first < apart; first++)
        for (int p = first; p < count; p += apart) {
            const float *from = products + p * f->step + a * span;
            float *to = row + ((ptrdiff_t)(column + p) * s->stride - s->pad) * s->c;
            for (int i = 0; i < whole - WIDTH; i += WIDTH)
                store(to + i, load(to + i) + load(from + i));
            from += whole - WIDTH;
            to += whole - WIDTH;
            store(to, load(to) + (vec)((ivec)load(from) & last));
        }
}

/* Rows [from, to) of an image. */
static inline void few_run_rows(const struct few_rows *f, int image, int from, int to, float *products)
{
    const struct conv_shape *s = f->shape;
    float *rows = products + f->block * f->step;
    int w = conv_out_w(s), first = from + s->pad - s->k + 1, margin = s->k * s->c, done = from;
    first = first < 0 ? 0 : (first + s->stride - 1) / s->stride;
    int last = (to - 1 + s->pad) / s->stride; /* row of codes that reaches these */
    last = last < conv_out_h(s) ? last : conv_out_h(s) - 1;
    memset(rows, 0, s->k * few_image_row(s) * sizeof *rows);
    for (int y = first; y <= last + 1; y++) {
        int top = y * s->stride - s->pad, final = y <= last && top < to ? top : to;
        for (; done < final; done++) { /* the codes to come do not reach it */
            float *row = rows + done % s->k * few_image_row(s);
            f->finish(f, row + margin, s->w * s->c, ((size_t)image * s->h + done) * s->w * s->c);
            memset(row, 0, few_image_row(s) * sizeof *row);
        }
        if (y > last)
            break;
        for (int column = 0; column < w; column += f->block) {
            int count = w - column < f->block ? w - column : f->block;
            f->multiply(f, (size_t)image * conv_out_h(s) + y, column, count, products);
            for (int a = 0; a < s->k; a++)
                if (top + a >= from && top + a < to)
                    few_add(f, products, column, count, a, rows + (top + a) % s->k * few_image_row(s) + margin);
        }
    }
}

/* The parts of an image that threads take. */
static inline int few_spans(const struct conv_shape *s, int threads)
{
    return s->n % threads == 0 ? 1 : threads < s->h ? threads : s->h;
}

/* All of it, by the threads of a parallel region. */
static inline void few_run(const struct few_rows *f, int threads, float *scratch)
{
    const struct conv_shape *s = f->shape;
    int spans = few_spans(s, threads);
    float *own = scratch + thread_number() * few_floats(s, f->step, f->block);
#pragma omp for schedule(static)
    for (int unit = 0; unit < s->n * spans; unit++) {
        int span = unit % spans;
        few_run_rows(f, unit / spans, s->h * span / spans, s->h * (span + 1) / spans, own);
    }
}

#endif
