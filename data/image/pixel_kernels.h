/* pixel_kernels.h - the loops over pixels, compiled once for each instruction set and chosen at run time.
 * All sets give the same bytes; the set "base" is plain C. */
#ifndef CSC_DATA_IMAGE_PIXEL_KERNELS_H
#define CSC_DATA_IMAGE_PIXEL_KERNELS_H

#include <stdint.h>

#include "data/image/image.h"

enum { RESIZE_PRECISION = 22 }; /* fraction bits of a resizing weight */

/* Weights to resize along one axis: output i is the sum of weight[i * taps + t] * input[first[i] + t] over t <
 * count[i]. */
struct resize_axis {
    int n;              /* outputs */
    int *first, *count; /* (n) */
    int32_t *weight;    /* (n, taps), 0 from count[i] on */
    int32_t *split;     /* (n, taps): for each two weights their upper 11 bits as 16-bit halves, then their lower 11 */
    int taps;           /* even */
};

/* Makes bytes into floats: value v of channel c becomes (v * high[c] + base[c]) + (v * low[c] + rest[c]). The first sum
 * is exact and the second one tiny, so that the result is (v / 255 - mean) / std, rounded once. The three channels are
 * repeated 8 times, for vectors of 24 floats. */
struct normaliser {
    float high[24], base[24], low[24], rest[24];
};

struct pixel_kernels {
    const char *name;

    /* The functions of rgbz.h, for one band. */
    void (*rgbz_encode)(const uint8_t *pixels, int width, int rows, uint8_t *planes);
    void (*rgbz_decode)(const uint8_t *planes, int width, int rows, int x, int columns, int from, int to,
                        uint8_t *pixels);

    /* Resizes the rows of a view along x: out is (view.height, axis->n, 3). */
    void (*resize_columns)(struct view view, const struct resize_axis *axis, uint8_t *out);

    /* Computes output row i of a resize along y. `in` has rows of `bytes` bytes, one after the other. */
    void (*resize_row)(const uint8_t *in, size_t bytes, const struct resize_axis *axis, int i, uint8_t *out);

    /* Normalises (pixels, 3) bytes to floats. */
    void (*normalise)(const struct normaliser *normaliser, const uint8_t *in, int pixels, float *out);
};

enum { PIXEL_KERNEL_SETS = 3 };

/* Lists the sets that this machine can run, best first. Returns their number. */
int pixel_kernel_sets(const struct pixel_kernels *sets[PIXEL_KERNEL_SETS]);

/* The best set of this machine. */
const struct pixel_kernels *pixel_kernels(void);

#endif
