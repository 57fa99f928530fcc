/* resize.h - antialiased bilinear resizing, bit for bit as Pillow's Image.resize(BILINEAR) does it.
 * Only the part of the input that the wanted part of the output needs is touched. */
#ifndef CSC_DATA_IMAGE_RESIZE_H
#define CSC_DATA_IMAGE_RESIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"
#include "data/image/pixel_kernels.h"

/* An input of (in_height, in_width) pixels becomes (height, width), of which `window` is wanted. */
struct resize {
    int in_width, in_height, width, height;
    struct box window;
    bool mirror; /* the window's columns from right to left */
};

/* The pixels of the input that the window needs. */
struct box resize_input_box(const struct resize *resize);

/* Scratch, one per thread; zero-initialised. */
struct resizer {
    const struct pixel_kernels *kernels; /* NULL: the best */
    uint8_t *rows, *line, *weights;
    size_t rows_capacity, line_capacity, weights_capacity;
    /* of the resize that was begun */
    struct resize current;
    struct view view;
    struct resize_axis vertical;
};
void resizer_finish(struct resizer *resizer);

/* Begins a resize of the pixels that resize_input_box named, then gives row i of the window: (window.width, 3), valid
 * until the next call. The view must stay until the last row. STATUS_NOMEM. */
enum status resize_begin(struct resizer *resizer, const struct resize *resize, struct view view);
const uint8_t *resize_row(struct resizer *resizer, int i);

/* The whole view resized to (height, width), at out. STATUS_NOMEM. */
enum status resize_image(struct resizer *resizer, struct view view, int width, int height, uint8_t *out);

/* The other side of an image whose one side becomes `to`, as torchvision rounds it (down). */
int resize_other_side(int to, int side, int other);

#endif
