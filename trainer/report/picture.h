/* picture.h - pictures for people to look at, and PNG. */
#ifndef CSC_TRAINER_REPORT_PICTURE_H
#define CSC_TRAINER_REPORT_PICTURE_H

#include "data/image/image.h"

/* The dictionary or filters w (D,C,k,k) of a layer as tiles. Three channels: one coloured tile for each atom, grey is
 * 0, stretched so that its largest value is in full colour. Others: a row for each atom, a tile for each channel, red
 * above 0, blue below, one scale for all; the first `PICTURE_MAX_TILES` atoms and channels. Small atoms are enlarged.
 */
enum { PICTURE_MAX_TILES = 64 };
enum status picture_atoms(struct image *picture, const float *w, int d, int c, int k);

/* Normalised pixels (size,size,3) back to bytes, clipped. */
enum status picture_pixels(struct image *picture, const float *normalized, int size, const double mean[3],
                           const double std[3]);

/* Such images (count,size,size,3) side by side. */
enum status picture_strip(struct image *picture, const float *normalized, int count, int size, const double mean[3],
                          const double std[3]);

/* Whole multiples of its pixels, so that the longer side comes near `pixels` but not above it. In place. */
enum status picture_enlarge(struct image *picture, int pixels);

/* PNG file contents; the caller frees *png. */
enum status picture_png(const struct image *picture, void **png, size_t *bytes);

#endif
