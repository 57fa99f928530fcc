/* image.c - images and views of them, in buffers that are reused. */
#include "data/image/image.h"

#include <stdlib.h>

#include "base/memory.h"

enum status image_allocate(struct image *image, int width, int height)
{
    enum status status = STATUS_OK;
    TRY(buffer_grow(&image->pixels, &image->capacity, (size_t)width * height * 3));
    image->width = width;
    image->height = height;
fail:
    return status;
}

void image_finish(struct image *image)
{
    free(image->pixels);
    *image = (struct image){ 0 };
}

struct view view_image(const struct image *image)
{
    return (struct view){ image->pixels, (size_t)image->width * 3, image->width, image->height };
}

struct view view_crop(struct view view, int x, int y, int width, int height)
{
    return (struct view){ view.pixels + y * view.stride + (size_t)x * 3, view.stride, width, height };
}
