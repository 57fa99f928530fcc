/* attack_internal.h - a chunk of images under attack, and what the attacks share. */
#ifndef CSC_TRAINER_EVAL_ATTACK_INTERNAL_H
#define CSC_TRAINER_EVAL_ATTACK_INTERNAL_H

#include "base/philox.h"
#include "trainer/eval/attack.h"

struct chunk {
    struct victim *victim;
    const struct attack *attack;
    uint64_t seed;
    int restart; /* from 0; of ATTACK_APGD_T the rank of the target class too */
    int count, classes;
    size_t pixels;      /* of one image */
    const float *clean; /* (count,S,S,3) */
    const int32_t *labels;
    const uint64_t *ids;
    const int32_t *targets; /* ATTACK_APGD_T */
    float *x;               /* in: anything; out: where the attack ended */
    bool *fooled;           /* (count) out */
};

enum status chunk_pgd(struct chunk *c);
enum status chunk_apgd(struct chunk *c);
enum status chunk_square(struct chunk *c);

struct philox chunk_random_stream(const struct chunk *c, int i);
/* x_i back into the ball round clean_i, and into 0..1. */
void chunk_project(const struct chunk *c, int i, float *x);
/* A direction in pixels to the attack's norm: its sign, or divided by its length. */
void chunk_ascent_direction(const struct chunk *c, int i, float *gradient);

bool chunk_is_fooled(const struct chunk *c, int i, const float *logits);
int chunk_runner_up(const struct chunk *c, int i, const float *logits); /* the likeliest class but the label */

/* The loss that grows as the attack succeeds, and dlogits (K) of it. */
double chunk_loss(const struct chunk *c, int i, const float *logits, float *dlogits);

#endif
