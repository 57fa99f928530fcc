/* rgbz.c - subtract green, planes, up-predictor, and back.
 * Both inner loops run along a row over independent bytes, so they vectorise. */
#include "data/rgbz.h"

void rgbz_encode(const uint8_t *restrict pixels, int width, int height, uint8_t *restrict planes)
{
    size_t plane = (size_t)width * height;
    for (int y = 0; y < height; y++) {
        const uint8_t *in = pixels + (size_t)y * width * 3;
        const uint8_t *above = y ? in - (size_t)width * 3 : NULL;
        uint8_t *g = planes + (size_t)y * width, *r = g + plane, *b = r + plane;
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

void rgbz_decode(uint8_t *restrict planes, int width, int height, uint8_t *restrict pixels)
{
    size_t plane = (size_t)width * height;
    for (int y = 0; y < height; y++) {
        uint8_t *g = planes + (size_t)y * width, *r = g + plane, *b = r + plane;
        uint8_t *out = pixels + (size_t)y * width * 3;
        for (int p = 0; y > 0 && p < 3; p++) {
            uint8_t *restrict row = planes + p * plane + (size_t)y * width;
            const uint8_t *above = row - width;
            for (int x = 0; x < width; x++)
                row[x] += above[x];
        }
        for (int x = 0; x < width; x++) {
            out[3 * x] = r[x] + g[x];
            out[3 * x + 1] = g[x];
            out[3 * x + 2] = b[x] + g[x];
        }
    }
}
