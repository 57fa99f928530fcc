/* pixels.h - images as bytes, on their way to a device that makes activations of them. */
#ifndef CSC_BASE_PIXELS_H
#define CSC_BASE_PIXELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One image of a batch: where its pixels are, which part becomes the output, whether mirrored. */
struct image_crop {
    size_t offset; /* bytes, of RGB pixels (height, width, 3), from where the batch's memory begins */
    int width, height;
    int left, top, right, bottom; /* the crop, right and bottom excluded */
    bool flip;
};

/* (v / 255 - mean) / std of channel c is (v high[c] + base[c]) + (v low[c] + rest[c]). high and base lie on a grid of
 * 2^-21, so that the first sum is exact in single precision and results below 8 in size have 24 bits; the second is
 * below 2^-13 and its rounding does not show. */
struct pixel_scale {
    float scale_high[3], offset_high[3], scale_low[3], offset_low[3];
};
struct pixel_scale pixel_scale(const double mean[3], const double std[3]);

#endif
