/* image.h - 8-bit RGB pixels, interleaved: (height, width, 3). */
#ifndef CSC_DATA_IMAGE_IMAGE_H
#define CSC_DATA_IMAGE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct image {
    int width, height;
    uint8_t *pixels; /* (height, width, 3) */
    size_t capacity; /* bytes allocated; grows, never shrinks */
};

/* Gives the image this size, keeping its memory if it suffices; pixels are undefined. STATUS_NOMEM. */
enum status image_allocate(struct image *image, int width, int height);
void image_finish(struct image *image);

/* A view of pixels (height, width, 3) whose rows lie `stride` bytes apart. */
struct view {
    const uint8_t *pixels;
    size_t stride;
    int width, height;
};
struct view view_image(const struct image *image);
struct view view_crop(struct view view, int x, int y, int width, int height);

/* Part of an image. */
struct box {
    int x, y, width, height;
};

/* Grows *buffer to at least `bytes`; its content is lost. STATUS_NOMEM. */
enum status buffer_grow(uint8_t **buffer, size_t *capacity, size_t bytes);

#endif
