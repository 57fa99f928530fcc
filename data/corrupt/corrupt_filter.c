/* corrupt_filter.c - blurs, pixelation and JPEG compression of an image (height, width, 3). */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/corrupt/corrupt_internal.h"
#include "data/image/decode.h"
#include "data/image/encode_jpeg.h"
#include "data/image/image.h"

enum {
    MAX_DISK_RADIUS = 10, /* of the defocus blurs */
    MIN_DISK_REACH = 8,   /* disks are drawn on a grid of at least (2 * 8 + 1)^2 pixels */
    DISK_SIDE = 2 * MAX_DISK_RADIUS + 1,
    MAX_SOFT_REACH = 2,     /* of the small Gaussian that smooths a disk's edge */
    MAX_BLUR_REACH = 4 * 6, /* 4 standard deviations of the widest Gaussian, which has 6 pixels */
    BOX_PRECISION = 22,     /* bits of Pillow's fixed-point weights */
};

static int clamp(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* Mirrors an index at the border without repeating the border: -1 becomes 1, n becomes n - 2. */
static int mirror(int i, int n)
{
    if (n == 1)
        return 0;
    while (i < 0 || i >= n)
        i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

/* weights[i + reach] = exp(-i^2 / 2 sigma^2) for i = -reach..reach, scaled to the sum 1. */
static void gaussian_weights(double sigma, int reach, double *weights)
{
    double sum = 0;
    for (int i = -reach; i <= reach; i++)
        sum += weights[i + reach] = exp(-0.5 * i * i / (sigma * sigma));
    for (int i = 0; i <= 2 * reach; i++)
        weights[i] /= sum;
}

/* Blurs along columns, then along rows, to 4 standard deviations. Beyond the border its pixels are repeated. */
void corrupt_gaussian_blur(const double *in, int width, int height, double sigma, double *scratch, double *out)
{
    double weights[2 * MAX_BLUR_REACH + 1];
    int reach = (int)(4 * sigma + 0.5);
    assert(reach <= MAX_BLUR_REACH);
    gaussian_weights(sigma, reach, weights);
    for (int pass = 0; pass < 2; pass++) {
        const double *from = pass ? scratch : in;
        double *to = pass ? out : scratch;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                for (int c = 0; c < 3; c++) {
                    double sum = 0;
                    for (int i = -reach; i <= reach; i++) {
                        int v = pass ? y : clamp(y + i, height), u = pass ? clamp(x + i, width) : x;
                        sum += weights[i + reach] * from[((size_t)v * width + u) * 3 + c];
                    }
                    to[((size_t)y * width + x) * 3 + c] = sum;
                }
    }
}

/* Draws a disk of sum 1 on a grid (2 * reach + 1, 2 * reach + 1), its edge smoothed by a small Gaussian. Returns reach.
 */
static int make_disk(double radius, double alias, double disk[DISK_SIDE * DISK_SIDE])
{
    int reach = radius <= MIN_DISK_REACH ? MIN_DISK_REACH : (int)radius, side = 2 * reach + 1;
    int soft = radius <= MIN_DISK_REACH ? 1 : MAX_SOFT_REACH; /* reach of the small Gaussian */
    double sharp[DISK_SIDE * DISK_SIDE], weights[2 * MAX_SOFT_REACH + 1], sum = 0;
    assert(reach <= MAX_DISK_RADIUS);
    for (int y = -reach; y <= reach; y++)
        for (int x = -reach; x <= reach; x++)
            sum += sharp[(y + reach) * side + x + reach] = x * x + y * y <= radius * radius;
    gaussian_weights(alias, soft, weights);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            double total = 0;
            for (int v = -soft; v <= soft; v++)
                for (int u = -soft; u <= soft; u++)
                    total += weights[v + soft] * weights[u + soft] *
                             sharp[mirror(y + v, side) * side + mirror(x + u, side)];
            disk[y * side + x] = total / sum;
        }
    return reach;
}

/* out += weight * the image shifted by (dy, dx), mirrored at the border. */
static void add_shifted(const double *in, int width, int height, int dy, int dx, double weight, double *out)
{
    for (int y = 0; y < height; y++) {
        const double *row = in + (size_t)mirror(y + dy, height) * width * 3;
        double *to = out + (size_t)y * width * 3;
        int low = dx < 0 ? -dx : 0, high = dx > 0 ? width - dx : width; /* columns that need no mirror */
        for (int x = 0; x < width; x++)
            if (x < low || x >= high)
                for (int c = 0; c < 3; c++)
                    to[x * 3 + c] += weight * row[mirror(x + dx, width) * 3 + c];
        for (int i = low * 3; i < high * 3; i++)
            to[i] += weight * row[i + dx * 3];
    }
}

void corrupt_defocus_blur(const double *in, int width, int height, double radius, double alias, double *out)
{
    double disk[DISK_SIDE * DISK_SIDE];
    int reach = make_disk(radius, alias, disk), side = 2 * reach + 1;
    memset(out, 0, (size_t)width * height * 3 * sizeof *out);
    for (int dy = -reach; dy <= reach; dy++)
        for (int dx = -reach; dx <= reach; dx++) {
            double weight = disk[(dy + reach) * side + dx + reach];
            if (weight > 1e-12) /* most of the grid is empty */
                add_shifted(in, width, height, dy, dx, weight, out);
        }
}

/* ---- pixelation: Pillow's box filter, down and up ---- */

/* The inputs [*low, *high) of output i. All have the same weight. */
static void box_window(int in, int out, int i, int *low, int *high)
{
    double scale = (double)in / out, wide = fmax(scale, 1), support = 0.5 * wide, center = (i + 0.5) * scale;
    int first = (int)(center - support + 0.5), last = (int)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    last = last > in ? in : last;
    *low = last;
    *high = first;
    for (int t = first; t < last; t++) {
        double x = (t - center + 0.5) / wide;
        if (x > -0.5 && x <= 0.5) {
            *low = t < *low ? t : *low;
            *high = t + 1;
        }
    }
}

/* Resizes one axis: `lines` lines of `in` pixels to `out` pixels. Pixels, of three bytes, are `step` bytes apart; lines
 * are `line` bytes apart in `from` and `out_line` bytes in `to`. */
static void box_axis(const uint8_t *from, int in, int out, int lines, size_t step, size_t line, size_t out_line,
                     uint8_t *to)
{
    for (int i = 0; i < out; i++) {
        int low, high;
        box_window(in, out, i, &low, &high);
        int32_t weight = (int32_t)(0.5 + 1.0 / (high - low) * (1 << BOX_PRECISION));
        for (int l = 0; l < lines; l++)
            for (int c = 0; c < 3; c++) {
                int32_t sum = 1 << (BOX_PRECISION - 1);
                for (int t = low; t < high; t++)
                    sum += from[l * line + t * step + c] * weight;
                to[l * out_line + i * step + c] = (uint8_t)(sum >> BOX_PRECISION);
            }
    }
}

/* Resizes (height, width, 3) to (out_height, out_width, 3). `rows` holds (height, out_width, 3) in between. */
static void box_resize(const uint8_t *in, int width, int height, int out_width, int out_height, uint8_t *rows,
                       uint8_t *out)
{
    size_t line = (size_t)width * 3, out_line = (size_t)out_width * 3;
    box_axis(in, width, out_width, height, 3, line, out_line, rows);
    box_axis(rows, height, out_height, out_width, out_line, 3, 3, out);
}

enum status corrupt_pixelate(struct corrupter *s, uint8_t *pixels, int width, int height, double factor)
{
    enum status status = STATUS_OK;
    int w = (int)(width * factor), h = (int)(height * factor);
    size_t bytes = (size_t)width * height * 3;
    w = w < 1 ? 1 : w;
    h = h < 1 ? 1 : h;
    TRY(buffer_grow(&s->bytes, &s->bytes_capacity, 2 * bytes));
    box_resize(pixels, width, height, w, h, s->bytes + bytes, s->bytes);
    box_resize(s->bytes, w, h, width, height, s->bytes + bytes, pixels);
fail:
    return status;
}

/* ---- JPEG ---- */

/* Compresses as Pillow does by default: YCbCr, colour at half resolution, the standard's tables scaled to `quality`. */
enum status corrupt_jpeg(uint8_t *pixels, int width, int height, int quality)
{
    enum status status = STATUS_OK;
    struct image original = { width, height, pixels, 0 }, image = { 0 };
    uint8_t *file = NULL;
    size_t capacity = 0, bytes = 0;
    unsigned notes = 0;
    TRY(encode_jpeg(&original, quality, "a JPEG corruption", &file, &capacity, &bytes));
    status = decode_jpeg(file, bytes, "a JPEG corruption", &image, &notes);
    if (status == STATUS_DATA)
        status = STATUS_BUG;
    TRY(status);
    memcpy(pixels, image.pixels, (size_t)width * height * 3);
fail:
    free(file);
    image_finish(&image);
    return status;
}
