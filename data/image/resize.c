/* resize.c - resizes with a triangle filter, which is widened by the scale when shrinking. Columns are resized first,
 * then rows, and each pass rounds to 8 bits. Weights are fixed-point numbers of 22 bits, normalised for each output
 * pixel. The arithmetic follows Pillow's documentation of resampling and its output, with which the tests compare. */
#include "data/image/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

int resize_other_side(int to, int side, int other)
{
    int result = (int)((int64_t)to * other / side);
    return result < 1 ? 1 : result;
}

/* Finds the inputs [*low, *high) on which output i of an axis depends. Returns their centre. */
static double input_range(int in, int out, int i, int *low, int *high)
{
    double scale = (double)in / out, support = fmax(scale, 1), center = (i + 0.5) * scale;
    *low = (int)(center - support + 0.5);
    *high = (int)(center + support + 0.5);
    *low = *low < 0 ? 0 : *low;
    *high = *high > in ? in : *high;
    return center;
}

struct box resize_input_box(const struct resize *r)
{
    int left, right, top, bottom, unused;
    if (r->in_width == r->width && r->in_height == r->height)
        return r->window;
    input_range(r->in_width, r->width, r->window.x, &left, &unused);
    input_range(r->in_width, r->width, r->window.x + r->window.width - 1, &unused, &right);
    input_range(r->in_height, r->height, r->window.y, &top, &unused);
    input_range(r->in_height, r->height, r->window.y + r->window.height - 1, &unused, &bottom);
    return (struct box){ left, top, right - left, bottom - top };
}

static int axis_taps(int in, int out)
{
    double scale = fmax((double)in / out, 1);
    return ((int)ceil(scale) * 2 + 2) / 2 * 2; /* even */
}

/* Assigns memory to an axis of n outputs. Returns the end of that memory. */
static int32_t *axis_assign_memory(struct resize_axis *axis, int in, int out, int n, int32_t *memory)
{
    axis->n = n;
    axis->taps = axis_taps(in, out);
    axis->first = memory;
    axis->count = memory + n;
    axis->weight = memory + 2 * n;
    axis->split = axis->weight + (size_t)n * axis->taps;
    return axis->split + (size_t)n * axis->taps;
}

static size_t axis_words(int in, int out, int n)
{
    return (size_t)n * (2 + 2 * axis_taps(in, out));
}

static double triangle(double x)
{
    double w = 1 - fabs(x);
    return w > 0 ? w : 0;
}

/* Computes the weights of outputs from, from + 1, ..., in reverse order if mirrored. Inputs are counted from `base`. */
static void axis_fill(struct resize_axis *axis, int in, int out, int from, int base, bool mirror)
{
    double inverse = 1 / fmax((double)in / out, 1);
    for (int k = 0; k < axis->n; k++) {
        int low, high;
        double sum = 0, center = input_range(in, out, mirror ? from + axis->n - 1 - k : from + k, &low, &high);
        int32_t *weight = axis->weight + (size_t)k * axis->taps;
        for (int t = low; t < high; t++)
            sum += triangle((t - center + 0.5) * inverse);
        for (int t = 0; t < axis->taps; t++) {
            double w = t < high - low ? triangle((low + t - center + 0.5) * inverse) : 0;
            weight[t] = (int32_t)(0.5 * (w > 0) + (sum != 0 ? w / sum : w) * (1 << RESIZE_PRECISION));
        }
        for (int t = 0; t < axis->taps; t += 2) {
            int32_t *split = axis->split + (size_t)k * axis->taps + t;
            split[0] = weight[t] >> 11 | (weight[t + 1] >> 11) << 16;
            split[1] = (weight[t] & 2047) | (weight[t + 1] & 2047) << 16;
        }
        axis->first[k] = low - base;
        axis->count[k] = high - low;
    }
}

enum status resize_begin(struct resizer *r, const struct resize *z, struct view view)
{
    enum status status = STATUS_OK;
    struct resize_axis horizontal;
    struct box box = resize_input_box(z);
    int columns = z->window.width, rows = z->window.height;
    if (!r->kernels)
        r->kernels = pixel_kernels();
    r->current = *z;
    r->view = view;
    TRY(buffer_grow(&r->line, &r->line_capacity, (size_t)columns * 3));
    if (z->in_width == z->width && z->in_height == z->height)
        return STATUS_OK;
    TRY(buffer_grow(&r->weights, &r->weights_capacity,
                    (axis_words(z->in_width, z->width, columns) + axis_words(z->in_height, z->height, rows)) *
                        sizeof(int32_t)));
    TRY(buffer_grow(&r->rows, &r->rows_capacity, (size_t)box.height * columns * 3));
    int32_t *rest = axis_assign_memory(&horizontal, z->in_width, z->width, columns, (int32_t *)r->weights);
    axis_assign_memory(&r->vertical, z->in_height, z->height, rows, rest);
    axis_fill(&horizontal, z->in_width, z->width, z->window.x, box.x, z->mirror);
    axis_fill(&r->vertical, z->in_height, z->height, z->window.y, box.y, false);
    r->kernels->resize_columns(view, &horizontal, r->rows);
fail:
    return status;
}

const uint8_t *resize_row(struct resizer *r, int i)
{
    size_t bytes = (size_t)r->current.window.width * 3;
    if (r->current.in_width == r->current.width && r->current.in_height == r->current.height) {
        const uint8_t *in = r->view.pixels + i * r->view.stride;
        if (!r->current.mirror)
            return in;
        for (int x = 0; x < r->current.window.width; x++)
            memcpy(r->line + 3 * x, in + bytes - 3 * (x + 1), 3);
        return r->line;
    }
    r->kernels->resize_row(r->rows, bytes, &r->vertical, i, r->line);
    return r->line;
}

enum status resize_image(struct resizer *r, struct view view, int width, int height, uint8_t *out)
{
    enum status status = STATUS_OK;
    struct resize z = { view.width, view.height, width, height, { 0, 0, width, height }, false };
    TRY(resize_begin(r, &z, view));
    for (int i = 0; i < height; i++)
        memcpy(out + (size_t)i * width * 3, resize_row(r, i), (size_t)width * 3);
fail:
    return status;
}

void resizer_finish(struct resizer *r)
{
    free(r->rows);
    free(r->line);
    free(r->weights);
    *r = (struct resizer){ 0 };
}
