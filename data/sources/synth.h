/* synth.h - images whose truth is known: each class composes its own convolutional dictionary.
 * An image is a flat random background, atoms of its class at random places with random gains, and noise.
 * Atoms have zero mean, unit norm and uncorrelated channels of equal energy, so neither mean colour nor
 * energy nor any linear function of the pixels tells the classes apart; only structure does. */
#ifndef CSC_DATA_SOURCES_SYNTH_H
#define CSC_DATA_SOURCES_SYNTH_H

#include "data/write/pack.h"

enum { SYNTH_ATOMS = 6, SYNTH_KERNEL = 7 }; /* per class; pixels */

struct synth_config {
    int64_t images; /* of the training set; the other set has a fifth, at least one */
    int classes, size;
    double noise; /* standard deviation, of values in 0..1 */
    uint64_t seed;
};

struct synth;

enum status synth_create(struct synth **synth, const struct synth_config *config);
struct pack_source *synth_source(struct synth *synth, bool training); /* belongs to synth; one at a time */

/* Writes the dictionaries as safetensors: "atoms" (classes * SYNTH_ATOMS, 3, 7, 7), class by class;
 * classes, size, noise, seed and images in its metadata. */
enum status synth_write_truth(const struct synth *synth, const char *path);
void synth_destroy(struct synth *synth);

#endif
