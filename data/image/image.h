/* image.h - 8-bit RGB images, interleaved: (height, width, 3). */
#ifndef CSC_DATA_IMAGE_IMAGE_H
#define CSC_DATA_IMAGE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct image {
    int width, height;
    uint8_t *pixels; /* (height, width, 3) */
    size_t capacity; /* bytes that are allocated; it never shrinks */
};

/* Gives the image this size and memory for it; the pixels are undefined. Errors: STATUS_NOMEM. */
enum status image_allocate(struct image *image, int width, int height);
void image_finish(struct image *image);

/* Pixels (height, width, 3) that something else owns, with rows `stride` bytes apart. */
struct view {
    const uint8_t *pixels;
    size_t stride;
    int width, height;
};

/* A view of a whole image, and of a part of a view. */
struct view view_image(const struct image *image);
struct view view_crop(struct view view, int x, int y, int width, int height);

/* A rectangle of pixels inside an image. */
struct box {
    int x, y, width, height;
};

#endif
