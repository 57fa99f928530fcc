/* picture.c - tiles, strips of images, and PNG by libpng. */
#include "trainer/report/picture.h"

#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "base/integer.h"

enum {
    MARGIN = 1,
    BACKGROUND = 255,
    TILE_PIXELS = 24,
    SIDE_PIXELS = 640
}; /* approximate sizes of an enlarged atom and of a picture */

static void fill_background(struct image *picture)
{
    memset(picture->pixels, BACKGROUND, (size_t)picture->width * picture->height * 3);
}

/* Fills the square of zoom x zoom pixels at (x, y). */
static void fill_square(struct image *picture, int x, int y, int zoom, const uint8_t colour[3])
{
    for (int v = 0; v < zoom; v++)
        for (int u = 0; u < zoom; u++)
            memcpy(picture->pixels + ((size_t)(y + v) * picture->width + x + u) * 3, colour, 3);
}

static uint8_t to_byte(double v)
{
    return (uint8_t)lrint(255 * fmin(fmax(v, 0), 1));
}

static float largest_magnitude(const float *values, size_t count)
{
    float maximum = 1e-30f;
    for (size_t i = 0; i < count; i++)
        maximum = fmaxf(maximum, fabsf(values[i]));
    return maximum;
}

/* White at 0, red at 1, blue at -1. */
static void diverging(double v, uint8_t colour[3])
{
    double rest = 1 - fmin(fabs(v), 1);
    colour[0] = to_byte(v >= 0 ? 1 - 0.2 * (1 - rest) : rest);
    colour[1] = to_byte(rest);
    colour[2] = to_byte(v >= 0 ? rest : 1 - 0.2 * (1 - rest));
}

static enum status colour_tiles(struct image *picture, const float *w, int d, int k)
{
    enum status status = STATUS_OK;
    int columns = (int)ceil(sqrt(d)), zoom = TILE_PIXELS / k > 1 ? TILE_PIXELS / k : 1, pitch = k * zoom + MARGIN;
    TRY(image_allocate(picture, columns * pitch + MARGIN, (int)ceil_div(d, columns) * pitch + MARGIN));
    fill_background(picture);
    for (int a = 0; a < d; a++) {
        const float *atom = w + (size_t)a * 3 * k * k;
        float scale = largest_magnitude(atom, (size_t)3 * k * k);
        for (int i = 0; i < k * k; i++) {
            uint8_t colour[3];
            for (int c = 0; c < 3; c++)
                colour[c] = to_byte(0.5 + 0.5 * atom[c * k * k + i] / scale);
            fill_square(picture, MARGIN + a % columns * pitch + i % k * zoom,
                        MARGIN + a / columns * pitch + i / k * zoom, zoom, colour);
        }
    }
fail:
    return status;
}

static enum status channel_tiles(struct image *picture, const float *w, int d, int c, int k)
{
    enum status status = STATUS_OK;
    int rows = d < PICTURE_MAX_TILES ? d : PICTURE_MAX_TILES, columns = c < PICTURE_MAX_TILES ? c : PICTURE_MAX_TILES;
    int zoom = SIDE_PIXELS / (columns * (k + MARGIN));
    zoom = zoom < 1 ? 1 : zoom * k > TILE_PIXELS ? TILE_PIXELS / k : zoom;
    int pitch = k * zoom + MARGIN;
    TRY(image_allocate(picture, columns * pitch + MARGIN, rows * pitch + MARGIN));
    fill_background(picture);
    float scale = largest_magnitude(w, (size_t)rows * c * k * k);
    for (int a = 0; a < rows; a++)
        for (int b = 0; b < columns; b++)
            for (int i = 0; i < k * k; i++) {
                uint8_t colour[3];
                diverging(w[((size_t)a * c + b) * k * k + i] / scale, colour);
                fill_square(picture, MARGIN + b * pitch + i % k * zoom, MARGIN + a * pitch + i / k * zoom, zoom,
                            colour);
            }
fail:
    return status;
}

enum status picture_atoms(struct image *picture, const float *w, int d, int c, int k)
{
    return c == 3 ? colour_tiles(picture, w, d, k) : channel_tiles(picture, w, d, c, k);
}

enum status picture_pixels(struct image *picture, const float *normalized, int size, const double mean[3],
                           const double std[3])
{
    enum status status = STATUS_OK;
    TRY(image_allocate(picture, size, size));
    for (size_t i = 0; i < (size_t)size * size * 3; i++)
        picture->pixels[i] = to_byte(normalized[i] * std[i % 3] + mean[i % 3]);
fail:
    return status;
}

enum status picture_strip(struct image *picture, const float *normalized, int count, int size, const double mean[3],
                          const double std[3])
{
    enum status status = STATUS_OK;
    enum { GAP = 2 };
    struct image one = { 0 };
    TRY(image_allocate(picture, count * (size + GAP) - GAP, size));
    fill_background(picture);
    for (int i = 0; i < count; i++) {
        TRY(picture_pixels(&one, normalized + (size_t)i * size * size * 3, size, mean, std));
        for (int y = 0; y < size; y++)
            memcpy(picture->pixels + ((size_t)y * picture->width + i * (size + GAP)) * 3,
                   one.pixels + (size_t)y * size * 3, (size_t)size * 3);
    }
fail:
    image_finish(&one);
    return status;
}

enum status picture_enlarge(struct image *picture, int pixels)
{
    enum status status = STATUS_OK;
    struct image large = { 0 };
    int longer = picture->width > picture->height ? picture->width : picture->height, zoom = pixels / longer;
    if (zoom < 2)
        return STATUS_OK;
    TRY(image_allocate(&large, picture->width * zoom, picture->height * zoom));
    for (int y = 0; y < picture->height; y++)
        for (int x = 0; x < picture->width; x++)
            fill_square(&large, x * zoom, y * zoom, zoom, picture->pixels + ((size_t)y * picture->width + x) * 3);
    image_finish(picture);
    *picture = large;
fail:
    return status;
}

enum status picture_png(const struct image *picture, void **png, size_t *bytes)
{
    enum status status = STATUS_OK;
    png_image header = { .version = PNG_IMAGE_VERSION,
                         .format = PNG_FORMAT_RGB,
                         .width = (png_uint_32)picture->width,
                         .height = (png_uint_32)picture->height };
    png_alloc_size_t capacity = PNG_IMAGE_PNG_SIZE_MAX(header);
    *png = malloc(capacity);
    if (!*png)
        FAIL(STATUS_NOMEM, "out of memory for a picture of %d x %d pixels", picture->width, picture->height);
    if (!png_image_write_to_memory(&header, *png, &capacity, 0, picture->pixels, 0, NULL))
        FAIL(STATUS_BUG, "libpng: %s", header.message);
    *bytes = capacity;
    return status;
fail:
    free(*png);
    *png = NULL;
    return status;
}
