/* rgbz.h - lossless pixels as residuals that zstd packs well.
 * Subtract green, split into planes G, R - G, B - G (each height x width), replace every row but the
 * first by its difference from the row above; all modulo 256. */
#ifndef CSC_DATA_RGBZ_H
#define CSC_DATA_RGBZ_H

#include <stddef.h>
#include <stdint.h>

/* pixels (height, width, 3) -> planes (3, height, width). The buffers must not overlap. */
void rgbz_encode(const uint8_t *pixels, int width, int height, uint8_t *planes);

/* planes -> pixels; planes is used as scratch and destroyed. */
void rgbz_decode(uint8_t *planes, int width, int height, uint8_t *pixels);

#endif
