/* picture.h - draws atoms and images as pictures, and writes PNG. */
#ifndef CSC_TRAINER_REPORT_PICTURE_H
#define CSC_TRAINER_REPORT_PICTURE_H

#include "data/image/image.h"

/* Draws the dictionary or filters w (D,C,k,k) of a layer as tiles. With three channels: one coloured tile per atom,
 * where grey is 0 and the atom's largest value has full colour. Otherwise: a row per atom and a tile per channel, red
 * above 0 and blue below, with one scale for all; only the first PICTURE_MAX_TILES atoms and channels. Small atoms are
 * enlarged. */
enum { PICTURE_MAX_TILES = 64 };
enum status picture_atoms(struct image *picture, const float *w, int d, int c, int k);

/* Converts normalised pixels (size,size,3) to bytes, clipped. */
enum status picture_pixels(struct image *picture, const float *normalized, int size, const double mean[3],
                           const double std[3]);

/* The same for images (count,size,size,3), side by side. */
enum status picture_strip(struct image *picture, const float *normalized, int count, int size, const double mean[3],
                          const double std[3]);

/* Enlarges the picture in place by a whole factor, so that the longer side is at most `pixels`. */
enum status picture_enlarge(struct image *picture, int pixels);

/* The contents of a PNG file; the caller frees *png. */
enum status picture_png(const struct image *picture, void **png, size_t *bytes);

#endif
