/* attack_internal.h - a chunk of images under attack, and functions that the attacks share. */
#ifndef CSC_TRAINER_EVAL_ATTACK_INTERNAL_H
#define CSC_TRAINER_EVAL_ATTACK_INTERNAL_H

#include "base/philox.h"
#include "trainer/eval/attack.h"

struct chunk {
    struct victim *victim;
    const struct attack *attack;
    uint64_t seed;
    int restart; /* from 0; for ATTACK_APGD_T also the index of the target class */
    int count, classes;
    size_t pixels;      /* floats of one image */
    const float *clean; /* (count,S,S,3) */
    const int32_t *labels;
    const uint64_t *ids;
    const int32_t *targets; /* (count), for ATTACK_APGD_T */
    float *x;               /* (count,S,S,3), out: the final images */
    bool *fooled;           /* (count), out: whether the final image is misclassified */
};

enum status chunk_pgd(struct chunk *c);
enum status chunk_apgd(struct chunk *c);
enum status chunk_square(struct chunk *c);

struct philox chunk_random_stream(const struct chunk *c, int i);
/* Projects image i back into the ball around clean_i, and into 0..1. */
void chunk_project(const struct chunk *c, int i, float *x);
/* Turns the gradient of image i into the direction of steepest ascent in the attack's norm: its sign, or the gradient
 * divided by its length. */
void chunk_ascent_direction(const struct chunk *c, int i, float *gradient);

bool chunk_is_fooled(const struct chunk *c, int i, const float *logits);

/* The loss of image i, which grows as the attack succeeds; its derivative goes to row i of dlogits (count,K). */
double chunk_loss(const struct chunk *c, int i, const float *logits, float *dlogits);

#endif
