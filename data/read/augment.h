/* augment.h - from an image to the (S,S,3) floats, or bytes, of a batch: crop, resize, flip, normalise.
 * A plan says which pixels are needed, before anything is decoded; draws are a function of (seed, epoch, sample id),
 * the side of a flip of (seed, sample id): it alternates. */
#ifndef CSC_DATA_READ_AUGMENT_H
#define CSC_DATA_READ_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/corrupt/corrupt.h"
#include "data/image/resize.h"

enum augment { AUGMENT_NONE, AUGMENT_CIFAR, AUGMENT_IMAGENET };

struct augmenter {
    enum augment kind;
    bool training;
    int size; /* S */
    uint64_t seed;
    float normalised[3][256]; /* (value / 255 - mean) / std */
    struct normaliser normaliser;
    bool normaliser_exact; /* the normaliser gives the table's values, all of them */
    const struct pixel_kernels *kernels;
    const struct corruption *corruption; /* of evaluation's squares; NULL: none. Set after augmenter_init, as is */
    bool output_bytes;                   /* nothing is normalised */
};

/* What one sample becomes. */
struct augment_plan {
    struct box crop;      /* of the image: what resizing takes for its input */
    struct resize resize; /* of the crop, to (S,S) */
    int dx, dy;           /* then shifted left and up, zeros coming in */
    bool flip;            /* then mirrored */
    struct box input;     /* of the image: the pixels that must be decoded */
    uint64_t id;
};

/* Scratch, one per thread; zero-initialised. */
struct augment_scratch {
    struct resizer resizer;
    struct corrupter corrupter;
    uint8_t *line, *square; /* one row, shifted and mirrored; all of them */
    size_t line_capacity, square_capacity;
};

void augmenter_init(struct augmenter *augmenter, enum augment kind, bool training, int size, uint64_t seed,
                    const double mean[3], const double std[3]);

/* The plan of sample `id`, an image of this size, in an epoch. */
struct augment_plan augment_plan(const struct augmenter *augmenter, int width, int height, int64_t epoch, uint64_t id);

/* Carries it out in two steps: view holds plan->input, or the same decoded at a smaller scale, and must stay until the
 * second one, which fills out (S,S,3), floats or bytes. STATUS_NOMEM; augment_end also what corrupt returns. */
enum status augment_begin(const struct augmenter *augmenter, struct augment_scratch *scratch,
                          const struct augment_plan *plan, struct view view);
enum status augment_end(const struct augmenter *augmenter, struct augment_scratch *scratch,
                        const struct augment_plan *plan, void *out);

void augment_scratch_finish(struct augment_scratch *scratch);

/* The box of a random-resized-crop, as torchvision's RandomResizedCrop(scale=(0.08, 1), ratio=(3/4, 4/3)) chooses it.
 */
struct philox;
struct box random_crop_box(struct philox *stream, int width, int height);

#endif
