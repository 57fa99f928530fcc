/* resize.c - separable triangle filter, widened by the scale when shrinking; columns first, then rows,
 * each pass rounded to 8 bits. Weights are fixed point with 22 bits, normalised per output pixel.
 * Source of the arithmetic: Pillow's documentation of its resampling and its output, which the tests compare. */
#include "data/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PRECISION = 22 };

/* gcc picks the widest version the machine has; sanitizers cannot follow that */
#if defined __x86_64__ && defined __GNUC__ && !defined __clang__ && !defined __SANITIZE_ADDRESS__ && \
    !defined __SANITIZE_THREAD__
#define WIDEST __attribute__((target_clones("avx2", "default")))
#else
#define WIDEST
#endif

/* Output pixel i is the sum over t < count of weight[i * taps + t] * input[first + t]. */
struct axis {
    int *first, *count; /* (n) */
    int32_t *weight;    /* (n, taps) */
    int taps;
};

int resize_other_side(int to, int side, int other)
{
    int result = (int)((int64_t)to * other / side);
    return result < 1 ? 1 : result;
}

static int axis_taps(int in, int out)
{
    double scale = fmax((double)in / out, 1);
    return (int)ceil(scale) * 2 + 1;
}

/* Fills the weights of outputs [from, from + n) of an axis resized from `in` to `out`. */
static void axis_weights(struct axis *axis, int in, int out, int from, int n)
{
    double scale = (double)in / out, support = fmax(scale, 1), inverse = 1 / support;
    for (int i = 0; i < n; i++) {
        double center = (from + i + 0.5) * scale, sum = 0;
        int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > in ? in : high;
        int32_t *weight = axis->weight + (size_t)i * axis->taps;
        for (int t = low; t < high; t++)
            sum += fmax(1 - fabs((t - center + 0.5) * inverse), 0);
        for (int t = low; t < high; t++) {
            double w = fmax(1 - fabs((t - center + 0.5) * inverse), 0);
            weight[t - low] = (int32_t)(0.5 + (sum != 0 ? w / sum : w) * (1 << PRECISION));
        }
        axis->first[i] = low;
        axis->count[i] = high - low;
    }
}

static uint8_t clip(int32_t sum)
{
    int32_t value = sum >> PRECISION;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Rows of the view, resized along x: out (view.height, n, 3). */
WIDEST static void pass_columns(struct view view, const struct axis *axis, int n, uint8_t *restrict out)
{
    for (int y = 0; y < view.height; y++) {
        const uint8_t *row = view.pixels + y * view.stride;
        for (int i = 0; i < n; i++, out += 3) {
            const int32_t *weight = axis->weight + (size_t)i * axis->taps;
            const uint8_t *in = row + (size_t)axis->first[i] * 3;
            int32_t r = 1 << (PRECISION - 1), g = r, b = r;
            for (int t = 0; t < axis->count[i]; t++, in += 3) {
                r += in[0] * weight[t];
                g += in[1] * weight[t];
                b += in[2] * weight[t];
            }
            out[0] = clip(r);
            out[1] = clip(g);
            out[2] = clip(b);
        }
    }
}

/* Columns of in (rows, bytes), whose row 0 is the axis's input `base`: out (n, bytes). */
WIDEST static void pass_rows(const uint8_t *restrict in, size_t bytes, int base, const struct axis *axis, int n,
                             uint8_t *restrict out)
{
    enum { STRIP = 256 };
    int32_t sums[STRIP];
    for (int i = 0; i < n; i++, out += bytes) {
        const int32_t *weight = axis->weight + (size_t)i * axis->taps;
        for (size_t x = 0; x < bytes; x += STRIP) {
            int width = bytes - x < STRIP ? (int)(bytes - x) : STRIP;
            for (int k = 0; k < STRIP; k++)
                sums[k] = 1 << (PRECISION - 1);
            for (int t = 0; t < axis->count[i]; t++) {
                const uint8_t *row = in + (size_t)(axis->first[i] - base + t) * bytes + x;
                for (int k = 0; k < width; k++)
                    sums[k] += row[k] * weight[t];
            }
            for (int k = 0; k < width; k++)
                out[x + k] = clip(sums[k]);
        }
    }
}

/* Carves two axes of nx and ny outputs from the resizer's memory. */
static enum status make_axes(struct resizer *r, struct axis axes[2], const int in[2], const int out[2],
                             const int from[2], const int n[2])
{
    enum status status = STATUS_OK;
    size_t words = 0;
    for (int a = 0; a < 2; a++) {
        axes[a].taps = axis_taps(in[a], out[a]);
        words += (size_t)n[a] * (2 + axes[a].taps);
    }
    TRY(buffer_grow(&r->weights, &r->weights_capacity, words * sizeof(int32_t)));
    int32_t *memory = (int32_t *)r->weights;
    for (int a = 0; a < 2; a++) {
        axes[a].first = memory;
        axes[a].count = memory + n[a];
        axes[a].weight = memory + 2 * n[a];
        memory += (size_t)n[a] * (2 + axes[a].taps);
        axis_weights(&axes[a], in[a], out[a], from[a], n[a]);
    }
fail:
    return status;
}

enum status resize_window(struct resizer *r, struct view view, int width, int height, int x, int y, int columns,
                          int rows, uint8_t *out)
{
    enum status status = STATUS_OK;
    struct axis axes[2];
    if (width == view.width && height == view.height) {
        for (int i = 0; i < rows; i++)
            memcpy(out + (size_t)i * columns * 3, view.pixels + (y + i) * view.stride + (size_t)x * 3,
                   (size_t)columns * 3);
        return STATUS_OK;
    }
    TRY(make_axes(r, axes, (int[]){ view.width, view.height }, (int[]){ width, height }, (int[]){ x, y },
                  (int[]){ columns, rows }));
    int low = axes[1].first[0], high = axes[1].first[rows - 1] + axes[1].count[rows - 1];
    size_t bytes = (size_t)columns * 3;
    TRY(buffer_grow(&r->rows, &r->rows_capacity, (size_t)(high - low) * bytes));
    pass_columns(view_crop(view, 0, low, view.width, high - low), &axes[0], columns, r->rows);
    pass_rows(r->rows, bytes, low, &axes[1], rows, out);
fail:
    return status;
}

void resizer_finish(struct resizer *r)
{
    free(r->rows);
    free(r->weights);
    *r = (struct resizer){ 0 };
}
