/* philox.h - counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).
 * A number is a function of key and counter only, so it does not depend on which rank or thread draws it, or when. */
#ifndef CSC_BASE_PHILOX_H
#define CSC_BASE_PHILOX_H

#include <stdint.h>

/* out = the 128-bit block for this counter and key. */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A stream of numbers, keyed by (seed, domain, index), such as (seed, epoch, sample id). */
struct philox {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t block[4];
    int used; /* words of `block` that were already returned */
};

void philox_init(struct philox *stream, uint64_t seed, uint32_t domain, uint64_t index);
uint32_t philox_u32(struct philox *stream);
double philox_uniform(struct philox *stream);                 /* in [0, 1), 53 bits */
uint32_t philox_below(struct philox *stream, uint32_t bound); /* in [0, bound), unbiased; bound >= 1 */
double philox_normal(struct philox *stream);                  /* mean 0, variance 1 (Box-Muller) */

/* Domains keep streams with the same seed apart. The low 28 bits may hold an epoch or a purpose. */
#define PHILOX_DOMAIN_ORDER   0x10000000u
#define PHILOX_DOMAIN_AUGMENT 0x20000000u
#define PHILOX_DOMAIN_INIT    0x30000000u
#define PHILOX_DOMAIN_SYNTH   0x40000000u
#define PHILOX_DOMAIN_POWER   0x50000000u
#define PHILOX_DOMAIN_CORRUPT 0x60000000u
#define PHILOX_DOMAIN_ATTACK  0x70000000u
#define PHILOX_DOMAIN_FLIP    0x80000000u

#endif
