/* order.h - the order of samples in an epoch, computed for each position by itself.
 * A Feistel network permutes the smallest domain with an even number of bits that holds n. A value that falls outside n
 * is permuted again until it falls inside (cycle walking), so the permutation exists for every n. */
#ifndef CSC_DATA_READ_ORDER_H
#define CSC_DATA_READ_ORDER_H

#include <stdint.h>

enum shuffle {
    SHUFFLE_NONE,   /* the order of the dataset */
    SHUFFLE_FULL,   /* a permutation of all samples */
    SHUFFLE_WINDOW, /* see struct order */
};

enum { FEISTEL_ROUNDS = 6 };

/* A permutation of 0 .. n-1. */
struct feistel {
    uint64_t n;
    int half_bits; /* bits of one half of the domain */
    uint32_t keys[FEISTEL_ROUNDS];
};

/* The order of one epoch. For SHUFFLE_WINDOW the dataset is rotated by a random amount and cut into runs of window / 64
 * neighbours. The runs are permuted, then the samples within each window of the result. So a window reads from at most
 * 65 stretches of the dataset. */
struct order {
    enum shuffle shuffle;
    uint64_t seed, n;
    int64_t epoch;
    uint64_t window, run_length; /* in samples; for SHUFFLE_WINDOW, as are the next two */
    uint64_t rotation;
    struct feistel run_order;
    struct feistel permutation; /* of all samples */
};

/* Makes the order of an epoch of n samples. Only SHUFFLE_WINDOW uses `window`, a number of samples. */
void order_init(struct order *order, enum shuffle shuffle, uint64_t n, uint64_t window, uint64_t seed, int64_t epoch);

/* The sample at a position of the epoch. */
uint64_t order_at(const struct order *order, uint64_t position);

/* How well an order mixes the dataset; both are about 1 for a random permutation. */
struct order_quality {
    double displacement; /* the mean distance that samples move, over that of a random permutation */
    double separation;   /* pairs of neighbours in one batch: as many as chance gives, over those found; at most 1 */
};

/* Measures an order with batches of `batch` samples, on about max_positions positions if the epoch has more. */
struct order_quality order_measure(const struct order *order, uint64_t batch, uint64_t max_positions);

#endif
