/* corrupt.h - common image corruptions, as CIFAR-10-C and ImageNet-C define them (Hendrycks and Dietterich, ICLR 2019).
 * A corruption is applied to the 8-bit pixels that evaluation sees, before normalisation. Its random numbers depend
 * only on (seed, corruption, severity, sample id), so ranks, workers and batches do not change them. */
#ifndef CSC_DATA_CORRUPT_CORRUPT_H
#define CSC_DATA_CORRUPT_CORRUPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum corruption_kind {
    CORRUPT_GAUSSIAN_NOISE,
    CORRUPT_SHOT_NOISE,
    CORRUPT_IMPULSE_NOISE,
    CORRUPT_SPECKLE_NOISE,
    CORRUPT_GAUSSIAN_BLUR,
    CORRUPT_DEFOCUS_BLUR,
    CORRUPT_BRIGHTNESS,
    CORRUPT_CONTRAST,
    CORRUPT_SATURATE,
    CORRUPT_PIXELATE,
    CORRUPT_JPEG,
    CORRUPTIONS,
};
enum { CORRUPT_SEVERITIES = 5 };

struct corruption {
    enum corruption_kind kind;
    int severity; /* 1..5; other values only select another stream of random numbers */
    double a, b;  /* the constants of that severity; corrupt.c says what they are */
    uint64_t seed;
};

const char *corruption_name(enum corruption_kind kind); /* "gaussian_noise": as the published folders are named */

/* `severity` is 1..5. `imagenet` selects ImageNet-C's constants instead of CIFAR-10-C's. */
struct corruption corruption_make(enum corruption_kind kind, int severity, bool imagenet, uint64_t seed);

/* Parses a text such as "gaussian_noise:3". Either half may be "all", which gives -1. STATUS_USAGE lists the names. */
enum status corruption_parse(const char *text, int *kind, int *severity);

/* Scratch memory of one thread; zero-initialise it. */
struct corrupter {
    double *values[2];
    size_t capacity[2]; /* bytes */
    uint8_t *bytes;
    size_t bytes_capacity;
};
void corrupter_finish(struct corrupter *corrupter);

/* Corrupts the pixels (height, width, 3) of sample `id` in place. STATUS_NOMEM; STATUS_BUG if a JPEG that was just
 * written cannot be decoded. */
enum status corrupt(const struct corruption *corruption, struct corrupter *corrupter, uint8_t *pixels, int width,
                    int height, uint64_t id);

#endif
