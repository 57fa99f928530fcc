/* rgbz.h - a reversible transform of pixels into residuals that zstd compresses well.
 * An image is cut into bands of rows. Each band becomes the planes G, R - G and B - G, each (rows, width), and in each
 * plane every row but the first is replaced by its difference from the row above. All arithmetic is modulo 256. */
#ifndef CSC_DATA_FORMAT_RGBZ_H
#define CSC_DATA_FORMAT_RGBZ_H

#include <stddef.h>
#include <stdint.h>

/* Encodes pixels (height, width, 3) into bands, one after the other, each (3, rows, width). The last band may have
 * fewer than band_rows rows. The buffers must not overlap. */
void rgbz_encode(const uint8_t *pixels, int width, int height, int band_rows, uint8_t *out);

/* Decodes columns [x, x + columns) and rows [from, to) of a band (3, rows, width) to pixels (to - from, columns, 3). */
void rgbz_decode(const uint8_t *planes, int width, int rows, int x, int columns, int from, int to, uint8_t *pixels);

#endif
