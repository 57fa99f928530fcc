/* rgbz.c - applies the pixel kernels band by band. */
#include "data/format/rgbz.h"

#include "base/integer.h"
#include "data/image/pixel_kernels.h"

void rgbz_encode(const uint8_t *pixels, int width, int height, int band_rows, uint8_t *out)
{
    const struct pixel_kernels *kernels = pixel_kernels();
    for (int y = 0; y < height; y += band_rows) {
        int rows = min_int(band_rows, height - y);
        kernels->rgbz_encode(pixels + (size_t)y * width * 3, width, rows, out + (size_t)y * width * 3);
    }
}

void rgbz_decode(const uint8_t *planes, int width, int rows, int x, int columns, int from, int to, uint8_t *pixels)
{
    pixel_kernels()->rgbz_decode(planes, width, rows, x, columns, from, to, pixels);
}
