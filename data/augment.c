/* augment.c - CIFAR's crop and flip, ImageNet's random-resized-crop, evaluation's resize and centre crop.
 * All work on bytes and end in one table look-up per value, so the floats are those of
 * (value / 255 - mean) / std, rounded once. */
#include "data/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

enum { CIFAR_PAD = 4, CROP_TRIES = 10 };

void augmenter_init(struct augmenter *a, enum augment kind, bool training, int size, uint64_t seed,
                    const double mean[3], const double std[3])
{
    *a = (struct augmenter){ .kind = kind, .training = training, .size = size, .seed = seed };
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++)
            a->table[c][v] = (float)((v / 255.0 - mean[c]) / std[c]);
}

/* square (S,S,3) -> out, mirrored if flip. */
static void normalise(const struct augmenter *a, const uint8_t *square, bool flip, float *restrict out)
{
    int size = a->size;
    for (int y = 0; y < size; y++) {
        const uint8_t *in = square + ((size_t)y * size + (flip ? size - 1 : 0)) * 3;
        int step = flip ? -3 : 3;
        for (int x = 0; x < size; x++, in += step, out += 3) {
            out[0] = a->table[0][in[0]];
            out[1] = a->table[1][in[1]];
            out[2] = a->table[2][in[2]];
        }
    }
}

/* Short side to `side`, then the centre S x S, as torchvision's Resize and CenterCrop round. */
static enum status resize_and_center(const struct augmenter *a, struct augment_scratch *s, struct view view, int side,
                                     uint8_t *out)
{
    bool wide = view.width > view.height;
    int width = wide ? resize_other_side(side, view.height, view.width) : side;
    int height = wide ? side : resize_other_side(side, view.width, view.height);
    int x = (int)lrint((width - a->size) / 2.0), y = (int)lrint((height - a->size) / 2.0);
    return resize_window(&s->resizer, view, width, height, x, y, a->size, a->size, out);
}

/* The image as evaluation sees it. */
static enum status plain_square(const struct augmenter *a, struct augment_scratch *s, struct view view, uint8_t *out)
{
    int side = a->size;
    if (a->kind == AUGMENT_IMAGENET)
        side = (int)lrint(a->size * 256.0 / 224.0);
    return resize_and_center(a, s, view, side, out);
}

/* The plain square, shifted by up to 4 pixels each way; zeros come in from outside. */
static enum status shifted_square(const struct augmenter *a, struct augment_scratch *s, struct view view,
                                  struct philox *stream, uint8_t *out)
{
    enum status status = STATUS_OK;
    int size = a->size;
    size_t row = (size_t)size * 3;
    int dy = (int)philox_below(stream, 2 * CIFAR_PAD + 1) - CIFAR_PAD;
    int dx = (int)philox_below(stream, 2 * CIFAR_PAD + 1) - CIFAR_PAD;
    if (view.width != size || view.height != size) {
        TRY(buffer_grow(&s->padded, &s->padded_capacity, row * size));
        TRY(plain_square(a, s, view, s->padded));
        view = (struct view){ s->padded, row, size, size };
    }
    int left = dx < 0 ? -dx : 0, right = dx > 0 ? dx : 0; /* columns of zeros on either side */
    left = left > size ? size : left;
    right = right > size ? size : right;
    int kept = size - left - right;
    for (int y = 0; y < size; y++, out += row) {
        int from = y + dy;
        if (from < 0 || from >= size || kept <= 0) {
            memset(out, 0, row);
            continue;
        }
        memset(out, 0, (size_t)left * 3);
        memcpy(out + (size_t)left * 3, view.pixels + from * view.stride + (size_t)right * 3, (size_t)kept * 3);
        memset(out + (size_t)(left + kept) * 3, 0, (size_t)right * 3);
    }
fail:
    return status;
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

enum status augment_sample(const struct augmenter *a, struct augment_scratch *s, struct view image, int64_t epoch,
                           uint64_t id, float *out)
{
    enum status status = STATUS_OK;
    bool flip = false;
    struct philox stream;
    TRY(buffer_grow(&s->square, &s->square_capacity, (size_t)a->size * a->size * 3));
    if (!a->training || a->kind == AUGMENT_NONE) {
        TRY(plain_square(a, s, image, s->square));
        if (a->corruption && !a->training)
            TRY(corrupt(a->corruption, &s->corrupter, s->square, a->size, a->size, id));
        normalise(a, s->square, false, out);
        return STATUS_OK;
    }
    philox_init(&stream, a->seed, PHILOX_DOMAIN_AUGMENT | ((uint32_t)epoch & 0x0fffffffu), id);
    if (a->kind == AUGMENT_CIFAR) {
        TRY(shifted_square(a, s, image, &stream, s->square));
    } else {
        struct box b = random_crop_box(&stream, image.width, image.height);
        TRY(resize_window(&s->resizer, view_crop(image, b.x, b.y, b.width, b.height), a->size, a->size, 0, 0, a->size,
                          a->size, s->square));
    }
    flip = philox_u32(&stream) & 1;
    normalise(a, s->square, flip, out);
fail:
    return status;
}

void augment_scratch_finish(struct augment_scratch *s)
{
    resizer_finish(&s->resizer);
    corrupter_finish(&s->corrupter);
    free(s->square);
    free(s->padded);
    *s = (struct augment_scratch){ 0 };
}
