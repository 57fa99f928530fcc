/* augment.c - the crop and flip of CIFAR, the random resized crop of ImageNet, and the resize and centre crop of
 * evaluation. All work on bytes until a value is normalised at the end, so the floats are (value / 255 - mean) / std,
 * rounded once. */
#include "data/read/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "base/pixels.h"

enum { CIFAR_PAD = 4, CROP_TRIES = 10 };

static void make_normaliser(struct normaliser *n, const double mean[3], const double std[3])
{
    const struct pixel_scale s = pixel_scale(mean, std);
    for (int k = 0; k < 24; k++) {
        n->high[k] = s.scale_high[k % 3];
        n->base[k] = s.offset_high[k % 3];
        n->low[k] = s.scale_low[k % 3];
        n->rest[k] = s.offset_low[k % 3];
    }
}

void augmenter_init(struct augmenter *a, enum augment kind, bool training, int size, uint64_t seed,
                    const double mean[3], const double std[3])
{
    *a = (struct augmenter){ .kind = kind,
                             .training = training,
                             .size = size,
                             .seed = seed,
                             .normaliser_exact = true,
                             .kernels = pixel_kernels() };
    make_normaliser(&a->normaliser, mean, std);
    for (int v = 0; v < 256; v++) {
        uint8_t pixels[8 * 3];
        float out[8 * 3];
        memset(pixels, v, sizeof pixels);
        a->kernels->normalise(&a->normaliser, pixels, 8, out);
        for (int c = 0; c < 3; c++)
            a->normalised[c][v] = (float)((v / 255.0 - mean[c]) / std[c]);
        for (int k = 0; k < 24; k++)
            a->normaliser_exact &= out[k] == a->normalised[k % 3][v];
    }
}

/* Writes row y, S pixels, normalised or as bytes. */
static void write_row(const struct augmenter *a, const uint8_t *in, int y, void *square)
{
    size_t values = (size_t)a->size * 3;
    if (a->output_bytes) {
        memcpy((uint8_t *)square + y * values, in, values);
        return;
    }
    float *out = (float *)square + y * values;
    if (a->normaliser_exact) {
        a->kernels->normalise(&a->normaliser, in, a->size, out);
        return;
    }
    for (int x = 0; x < a->size; x++, in += 3, out += 3)
        for (int c = 0; c < 3; c++)
            out[c] = a->normalised[c][in[c]];
}

/* Resizes the short side to `side` and takes the centre S x S, rounding as torchvision's Resize and CenterCrop do. */
static struct resize resize_and_center(const struct augmenter *a, int width, int height)
{
    int side = a->kind == AUGMENT_IMAGENET ? (int)lrint(a->size * 256.0 / 224.0) : a->size;
    bool wide = width > height;
    int w = wide ? resize_other_side(side, height, width) : side;
    int h = wide ? side : resize_other_side(side, width, height);
    int x = (int)lrint((w - a->size) / 2.0), y = (int)lrint((h - a->size) / 2.0);
    return (struct resize){ width, height, w, h, { x, y, a->size, a->size }, false };
}

struct box random_crop_box(struct philox *stream, int width, int height)
{
    double area = (double)width * height, low = log(3.0 / 4.0), high = log(4.0 / 3.0);
    for (int i = 0; i < CROP_TRIES; i++) {
        double target = area * (0.08 + (1 - 0.08) * philox_uniform(stream));
        double ratio = exp(low + (high - low) * philox_uniform(stream));
        int w = (int)lrint(sqrt(target * ratio)), h = (int)lrint(sqrt(target / ratio));
        if (w < 1 || h < 1 || w > width || h > height)
            continue;
        int y = (int)philox_below(stream, (uint32_t)(height - h + 1));
        int x = (int)philox_below(stream, (uint32_t)(width - w + 1));
        return (struct box){ x, y, w, h };
    }
    int w = width, h = height;
    if ((double)width / height < 3.0 / 4.0)
        h = (int)lrint(w / (3.0 / 4.0));
    else if ((double)width / height > 4.0 / 3.0)
        w = (int)lrint(h * (4.0 / 3.0));
    w = w < 1 ? 1 : w > width ? width : w;
    h = h < 1 ? 1 : h > height ? height : h;
    return (struct box){ (width - w) / 2, (height - h) / 2, w, h };
}

/* The first flip of an image is drawn, and then flips alternate: in two epochs it is seen once each way. Of two
 * independent draws half would repeat, which teaches less (Jordan 2024, arXiv:2404.00498). */
static bool mirrored(const struct augmenter *a, int64_t epoch, uint64_t id)
{
    struct philox stream;
    philox_init(&stream, a->seed, PHILOX_DOMAIN_FLIP, id);
    return (philox_u32(&stream) ^ (uint32_t)epoch) & 1;
}

struct augment_plan augment_plan(const struct augmenter *a, int width, int height, int64_t epoch, uint64_t id)
{
    struct augment_plan p = { .crop = { 0, 0, width, height }, .id = id };
    bool draws = a->training && a->kind != AUGMENT_NONE;
    struct philox stream;
    philox_init(&stream, a->seed, PHILOX_DOMAIN_AUGMENT | ((uint32_t)epoch & 0x0fffffffu), id);
    if (draws && a->kind == AUGMENT_IMAGENET) {
        p.crop = random_crop_box(&stream, width, height);
        p.resize = (struct resize){ p.crop.width, p.crop.height, a->size, a->size, { 0, 0, a->size, a->size }, false };
    } else if (draws) {
        p.dy = (int)philox_below(&stream, 2 * CIFAR_PAD + 1) - CIFAR_PAD;
        p.dx = (int)philox_below(&stream, 2 * CIFAR_PAD + 1) - CIFAR_PAD;
        p.resize = resize_and_center(a, width, height);
    } else {
        p.resize = resize_and_center(a, width, height);
    }
    p.flip = draws && mirrored(a, epoch, id);
    p.resize.mirror = p.flip && !p.dx && !p.dy;
    struct box box = resize_input_box(&p.resize);
    p.input = (struct box){ p.crop.x + box.x, p.crop.y + box.y, box.width, box.height };
    return p;
}

enum status augment_begin(const struct augmenter *a, struct augment_scratch *s, const struct augment_plan *p,
                          struct view view)
{
    enum status status = STATUS_OK;
    struct resize z = p->resize;
    if (view.width != p->input.width || view.height != p->input.height) { /* the crop was decoded at a smaller scale */
        z.in_width = view.width;
        z.in_height = view.height;
    }
    s->resizer.kernels = a->kernels;
    TRY(buffer_grow(&s->line, &s->line_capacity, (size_t)a->size * 3));
    TRY(resize_begin(&s->resizer, &z, view));
fail:
    return status;
}

/* Computes row y of the shifted and mirrored square. */
static const uint8_t *shifted_row(const struct augmenter *a, struct augment_scratch *s, const struct augment_plan *p,
                                  int y)
{
    int from = y + p->dy, size = a->size;
    memset(s->line, 0, (size_t)size * 3);
    if (from < 0 || from >= size)
        return s->line;
    const uint8_t *in = resize_row(&s->resizer, from);
    for (int x = 0; x < size; x++) {
        int at = (p->flip ? size - 1 - x : x) + p->dx;
        if (at >= 0 && at < size)
            memcpy(s->line + 3 * x, in + 3 * at, 3);
    }
    return s->line;
}

/* Computes the square, corrupts it and writes it. */
static enum status corrupted(const struct augmenter *a, struct augment_scratch *s, const struct augment_plan *p,
                             void *out)
{
    enum status status = STATUS_OK;
    size_t row = (size_t)a->size * 3;
    TRY(buffer_grow(&s->square, &s->square_capacity, row * a->size));
    for (int y = 0; y < a->size; y++)
        memcpy(s->square + y * row, resize_row(&s->resizer, y), row);
    TRY(corrupt(a->corruption, &s->corrupter, s->square, a->size, a->size, p->id));
    for (int y = 0; y < a->size; y++)
        write_row(a, s->square + y * row, y, out);
fail:
    return status;
}

enum status augment_end(const struct augmenter *a, struct augment_scratch *s, const struct augment_plan *p, void *out)
{
    bool shift = p->dx || p->dy;
    if (a->corruption && !a->training)
        return corrupted(a, s, p, out);
    for (int y = 0; y < a->size; y++)
        write_row(a, shift ? shifted_row(a, s, p, y) : resize_row(&s->resizer, y), y, out);
    return STATUS_OK;
}

void augment_scratch_finish(struct augment_scratch *s)
{
    resizer_finish(&s->resizer);
    corrupter_finish(&s->corrupter);
    free(s->line);
    free(s->square);
    *s = (struct augment_scratch){ 0 };
}
