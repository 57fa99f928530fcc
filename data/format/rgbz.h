/* rgbz.h - lossless pixels as residuals that zstd packs well.
 * Rows are cut into bands. In each: subtract green, split into planes G, R - G, B - G (each rows x width), replace
 * every row but the band's first by its difference from the row above; all modulo 256. */
#ifndef CSC_DATA_FORMAT_RGBZ_H
#define CSC_DATA_FORMAT_RGBZ_H

#include <stddef.h>
#include <stdint.h>

/* pixels (height, width, 3) -> bands, one after the other, each (3, rows, width). The buffers must not overlap. */
void rgbz_encode(const uint8_t *pixels, int width, int height, int band_rows, uint8_t *out);

/* Columns [x, x + columns) and rows [from, to) of one band (3, rows, width) -> pixels (to - from, columns, 3). */
void rgbz_decode(const uint8_t *planes, int width, int rows, int x, int columns, int from, int to, uint8_t *pixels);

#endif
