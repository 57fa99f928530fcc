/* rgbz.c - subtract green, planes, up-predictor, and back.
 * The inner loops run along a row over independent bytes, so they vectorise. */
#include "data/rgbz.h"

/* One band of `rows` rows. */
static void encode_band(const uint8_t *restrict pixels, int width, int rows, uint8_t *restrict out)
{
    size_t plane = (size_t)width * rows;
    for (int y = 0; y < rows; y++) {
        const uint8_t *in = pixels + (size_t)y * width * 3;
        const uint8_t *above = y ? in - (size_t)width * 3 : NULL;
        uint8_t *g = out + (size_t)y * width, *r = g + plane, *b = r + plane;
        for (int x = 0; x < width; x++, in += 3) {
            uint8_t green = in[1], red = in[0] - in[1], blue = in[2] - in[1];
            if (above) {
                green -= above[1];
                red -= above[0] - above[1];
                blue -= above[2] - above[1];
                above += 3;
            }
            g[x] = green;
            r[x] = red;
            b[x] = blue;
        }
    }
}

void rgbz_encode(const uint8_t *pixels, int width, int height, int band, uint8_t *out)
{
    for (int y = 0; y < height; y += band) {
        int rows = height - y < band ? height - y : band;
        encode_band(pixels + (size_t)y * width * 3, width, rows, out + (size_t)y * width * 3);
    }
}

void rgbz_decode(const uint8_t *restrict planes, int width, int rows, int x, int columns, int from, int to,
                 uint8_t *restrict pixels)
{
    enum { STRIP = 256 };
    size_t plane = (size_t)width * rows;
    for (int left = 0; left < columns; left += STRIP) {
        uint8_t sum[3][STRIP] = { { 0 } }; /* the row above, undone */
        int n = columns - left < STRIP ? columns - left : STRIP;
        for (int y = 0; y < to; y++) {
            const uint8_t *in = planes + (size_t)y * width + x + left;
            for (int p = 0; p < 3; p++)
                for (int i = 0; i < n; i++)
                    sum[p][i] += in[p * plane + i];
            uint8_t *out = pixels + ((size_t)(y - from) * columns + left) * 3;
            for (int i = 0; y >= from && i < n; i++) {
                out[3 * i] = sum[1][i] + sum[0][i];
                out[3 * i + 1] = sum[0][i];
                out[3 * i + 2] = sum[2][i] + sum[0][i];
            }
        }
    }
}
