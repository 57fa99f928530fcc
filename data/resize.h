/* resize.h - antialiased bilinear resizing, bit for bit as Pillow's Image.resize(BILINEAR) does it. */
#ifndef CSC_DATA_RESIZE_H
#define CSC_DATA_RESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image.h"

/* Scratch, one per thread; zero-initialised. */
struct resizer {
    uint8_t *rows, *weights;
    size_t rows_capacity, weights_capacity;
};
void resizer_finish(struct resizer *resizer);

/* Resizes the view to (height, width) and keeps the window at (x, y) of (rows, columns): out is
 * (rows, columns, 3). Only what the window needs is computed. STATUS_NOMEM. */
enum status resize_window(struct resizer *resizer, struct view view, int width, int height, int x, int y,
                          int columns, int rows, uint8_t *out);

/* The other side of an image whose one side becomes `to`, as torchvision rounds it (down). */
int resize_other_side(int to, int side, int other);

#endif
