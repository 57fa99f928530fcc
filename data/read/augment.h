/* augment.h - makes an image into one (S,S,3) entry of a batch: crop, resize, flip, normalise.
 * A plan says which pixels are needed before anything is decoded. Random draws depend on (seed, epoch, sample id) only.
 * A flip depends on (seed, sample id) and alternates from epoch to epoch. */
#ifndef CSC_DATA_READ_AUGMENT_H
#define CSC_DATA_READ_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/corrupt/corrupt.h"
#include "data/image/resize.h"

enum augment {
    AUGMENT_NONE,     /* resize and centre crop */
    AUGMENT_CIFAR,    /* a shift by at most 4 pixels, and a flip */
    AUGMENT_IMAGENET, /* a random resized crop, and a flip */
};

struct augmenter {
    enum augment kind;
    bool training; /* false: nothing is drawn */
    int size;      /* S */
    uint64_t seed;
    float normalised[3][256]; /* (value / 255 - mean) / std, rounded once */
    struct normaliser normaliser;
    bool normaliser_exact; /* the normaliser gives exactly the values of `normalised` */
    const struct pixel_kernels *kernels;
    const struct corruption
        *corruption;   /* applied in evaluation; NULL: none. The caller sets it after augmenter_init */
    bool output_bytes; /* the output is bytes, not normalised. The caller sets it after augmenter_init */
};

/* What is done to one sample, in this order. */
struct augment_plan {
    struct box crop;      /* the part of the image that is resized */
    struct resize resize; /* of the crop, to (S,S) */
    int dx, dy;           /* the shift left and up; zeros come in */
    bool flip;            /* left to right */
    struct box input;     /* the pixels of the image that must be decoded */
    uint64_t id;          /* of the sample */
};

/* Scratch memory of one thread; zero-initialise it. */
struct augment_scratch {
    struct resizer resizer;
    struct corrupter corrupter;
    uint8_t *line;   /* (S,3): one row, shifted and flipped */
    uint8_t *square; /* (S,S,3), to be corrupted */
    size_t line_capacity, square_capacity;
};
void augment_scratch_finish(struct augment_scratch *scratch);

/* mean and std are of values in 0 .. 1. */
void augmenter_init(struct augmenter *augmenter, enum augment kind, bool training, int size, uint64_t seed,
                    const double mean[3], const double std[3]);

/* Plans sample `id`, an image of width x height pixels, in an epoch. */
struct augment_plan augment_plan(const struct augmenter *augmenter, int width, int height, int64_t epoch, uint64_t id);

/* Begins to carry out a plan. `view` holds the pixels of plan->input, or the same part decoded at a smaller scale, and
 * must stay valid until augment_end. Errors: STATUS_NOMEM. */
enum status augment_begin(const struct augmenter *augmenter, struct augment_scratch *scratch,
                          const struct augment_plan *plan, struct view view);

/* Writes the result to `out`, (S,S,3) floats or bytes. Errors: STATUS_NOMEM, and those of corrupt(). */
enum status augment_end(const struct augmenter *augmenter, struct augment_scratch *scratch,
                        const struct augment_plan *plan, void *out);

/* Draws the box of a random resized crop as torchvision's RandomResizedCrop(scale=(0.08, 1), ratio=(3/4, 4/3)) does. */
struct philox;
struct box random_crop_box(struct philox *stream, int width, int height);

#endif
