/* resize.h - antialiased bilinear resizing, with exactly the pixels of Pillow's Image.resize(BILINEAR).
 * Only the part of the input that the wanted part of the output depends on is read. */
#ifndef CSC_DATA_IMAGE_RESIZE_H
#define CSC_DATA_IMAGE_RESIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"
#include "data/image/pixel_kernels.h"

/* Resizes an input of (in_height, in_width) pixels to (height, width) and computes the window of the output only. */
struct resize {
    int in_width, in_height, width, height;
    struct box window;
    bool mirror; /* the columns of the window are reversed */
};

/* The pixels of the input that the window depends on. */
struct box resize_input_box(const struct resize *resize);

/* Scratch memory of one thread; zero-initialise it. */
struct resizer {
    const struct pixel_kernels *kernels; /* NULL: the best of this machine */
    uint8_t *rows, *line, *weights;
    size_t rows_capacity, line_capacity, weights_capacity;
    /* The resize that was begun: */
    struct resize current;
    struct view view;
    struct resize_axis vertical;
};
void resizer_finish(struct resizer *resizer);

/* Begins a resize. `view` holds the pixels of resize_input_box and must stay valid until the last resize_row.
 * Errors: STATUS_NOMEM. */
enum status resize_begin(struct resizer *resizer, const struct resize *resize, struct view view);

/* Row i of the window, (window.width, 3), valid until the next call. */
const uint8_t *resize_row(struct resizer *resizer, int i);

/* Resizes a whole view to `out`, (height, width, 3). Errors: STATUS_NOMEM. */
enum status resize_image(struct resizer *resizer, struct view view, int width, int height, uint8_t *out);

/* The other side of an image when `side` becomes `to`, rounded down as torchvision does; at least 1. */
int resize_other_side(int to, int side, int other);

#endif
