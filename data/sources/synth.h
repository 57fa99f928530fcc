/* synth.h - synthetic images whose true dictionaries are known: each class has its own convolutional dictionary.
 * An image is a flat random background, plus atoms of its class at random positions with random gains, plus noise.
 * Atoms have zero mean and unit norm, and their channels are uncorrelated with equal energy. So neither mean colour nor
 * energy nor any linear function of the pixels tells the classes apart; only structure does. */
#ifndef CSC_DATA_SOURCES_SYNTH_H
#define CSC_DATA_SOURCES_SYNTH_H

#include "data/write/pack_source.h"

enum { SYNTH_ATOMS = 6, SYNTH_KERNEL = 7 }; /* atoms per class; their side in pixels */
enum { SYNTH_MAX_CLASSES = 1000, SYNTH_MAX_SIZE = 4096 };

struct synth_config {
    int64_t images; /* in the training set; the validation set has a fifth of them, at least one */
    int classes, size;
    double noise; /* standard deviation, for pixel values in 0..1 */
    uint64_t seed;
};

struct synth;

enum status synth_create(struct synth **synth, const struct synth_config *config);

/* The training or the validation images. The source belongs to synth and is valid until the next call. */
struct pack_source *synth_source(struct synth *synth, bool training);

/* Writes the dictionaries as safetensors: "atoms" (classes * SYNTH_ATOMS, 3, 7, 7), class by class; the metadata hold
 * classes, size, noise, seed and images. */
enum status synth_write_truth(const struct synth *synth, const char *path);
void synth_destroy(struct synth *synth);

#endif
