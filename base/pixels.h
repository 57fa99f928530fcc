/* pixels.h - 8-bit images that a device crops and normalises. */
#ifndef CSC_BASE_PIXELS_H
#define CSC_BASE_PIXELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One image of a batch, and the crop of it that the network sees. */
struct image_crop {
    size_t offset; /* of the image's RGB pixels (height,width,3) in the batch's memory, in bytes */
    int width, height;
    int left, top, right, bottom; /* the crop in pixels; right and bottom are exclusive */
    bool flip;                    /* mirrored left to right */
};

/* Normalisation. A pixel v of channel c becomes (v / 255 - mean) / std, computed as
 *     (v scale_high[c] + offset_high[c]) + (v scale_low[c] + offset_low[c]).
 * scale_high and offset_high are multiples of 2^-21, so the first sum is exact in single precision; the second is below
 * 2^-13. The result has 24 correct bits if it is below 8 in size, with or without fused multiply-add. */
struct pixel_scale {
    float scale_high[3], offset_high[3], scale_low[3], offset_low[3];
};
struct pixel_scale pixel_scale(const double mean[3], const double std[3]);

#endif
