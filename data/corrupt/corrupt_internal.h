/* corrupt_internal.h - the corruptions themselves, on values in 0..1 (or bytes) of an image (height, width, 3). */
#ifndef CSC_DATA_CORRUPT_CORRUPT_INTERNAL_H
#define CSC_DATA_CORRUPT_CORRUPT_INTERNAL_H

#include "base/philox.h"
#include "data/corrupt/corrupt.h"

/* These work in place. Results may leave 0..1; the caller clips them. */
void corrupt_noise(const struct corruption *corruption, struct philox *stream, double *values, size_t count);
void corrupt_colour(const struct corruption *corruption, double *values, size_t pixels);

/* These read `in` and write `out`; the two must not overlap. */
void corrupt_gaussian_blur(const double *in, int width, int height, double sigma, double *scratch, double *out);
void corrupt_defocus_blur(const double *in, int width, int height, double radius, double alias, double *out);

/* These work on bytes, in place. */
enum status corrupt_pixelate(struct corrupter *corrupter, uint8_t *pixels, int width, int height, double factor);
enum status corrupt_jpeg(uint8_t *pixels, int width, int height, int quality);

#endif
