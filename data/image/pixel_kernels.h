/* pixel_kernels.h - the loops over pixels that take the time, compiled once per instruction set and chosen at run time.
 * All sets give the same bytes; `base` is plain C. */
#ifndef CSC_DATA_IMAGE_PIXEL_KERNELS_H
#define CSC_DATA_IMAGE_PIXEL_KERNELS_H

#include <stdint.h>

#include "data/image/image.h"

enum { RESIZE_PRECISION = 22 }; /* bits behind the point of a resizing weight */

/* Resizing along one axis: output i is the sum over t < count[i] of weight[i * taps + t] * input[first[i] + t]. */
struct resize_axis {
    int n;              /* outputs */
    int *first, *count; /* (n) */
    int32_t *weight;    /* (n, taps); 0 from count[i] on */
    int32_t *split;     /* (n, taps): of each two weights their upper 11 bits, as 16-bit halves, then their lower 11 */
    int taps;           /* even */
};

/* Bytes to floats: of channel c, value v becomes (v * high[c] + base[c]) + (v * low[c] + rest[c]), whose first sum is
 * exact and whose second is tiny, so that the result is (v / 255 - mean) / std rounded once. Each stands 8 times in
 * a row, for vectors of 24 floats. */
struct normaliser {
    float high[24], base[24], low[24], rest[24];
};

struct pixel_kernels {
    const char *name;
    /* rgbz.h's functions, for one band */
    void (*rgbz_encode)(const uint8_t *pixels, int width, int rows, uint8_t *planes);
    void (*rgbz_decode)(const uint8_t *planes, int width, int rows, int x, int columns, int from, int to,
                        uint8_t *pixels);
    /* the view's rows resized along x: out (view.height, axis->n, 3) */
    void (*resize_columns)(struct view view, const struct resize_axis *axis, uint8_t *out);
    /* output row i of a resize along y, whose input rows of so many bytes each begin at in */
    void (*resize_row)(const uint8_t *in, size_t bytes, const struct resize_axis *axis, int i, uint8_t *out);
    /* in (pixels, 3) -> out (pixels, 3) */
    void (*normalise)(const struct normaliser *normaliser, const uint8_t *in, int pixels, float *out);
};

enum { PIXEL_KERNEL_SETS = 3 };
/* The sets that this machine can run, best first; returns how many. */
int pixel_kernel_sets(const struct pixel_kernels *sets[PIXEL_KERNEL_SETS]);

/* The best one. */
const struct pixel_kernels *pixel_kernels(void);

#endif
