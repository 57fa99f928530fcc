/* augment.h - from a decoded image to the (S,S,3) floats of a batch: crop, resize, flip, normalise.
 * Draws are a function of (seed, epoch, sample id). */
#ifndef CSC_DATA_AUGMENT_H
#define CSC_DATA_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/corrupt.h"
#include "data/loader.h"
#include "data/resize.h"

struct augmenter {
    enum augment kind;
    bool training;
    int size;              /* S */
    uint64_t seed;
    float table[3][256];   /* (value / 255 - mean) / std */
    const struct corruption *corruption; /* of evaluation's squares; NULL: none. Set after augmenter_init */
};

/* Scratch, one per thread; zero-initialised. */
struct augment_scratch {
    struct resizer resizer;
    struct corrupter corrupter;
    uint8_t *square, *padded;
    size_t square_capacity, padded_capacity;
};

void augmenter_init(struct augmenter *augmenter, enum augment kind, bool training, int size, uint64_t seed,
                    const double mean[3], const double std[3]);

/* out (S,S,3) from an image, as drawn for (epoch, id). STATUS_NOMEM. */
enum status augment_sample(const struct augmenter *augmenter, struct augment_scratch *scratch, struct view image,
                           int64_t epoch, uint64_t id, float *out);
void augment_scratch_finish(struct augment_scratch *scratch);

/* The box of a random-resized-crop, as torchvision's RandomResizedCrop(scale=(0.08, 1), ratio=(3/4, 4/3)) chooses it. */
struct philox;
struct box random_crop_box(struct philox *stream, int width, int height);

#endif
