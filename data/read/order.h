/* order.h - the order of samples in an epoch, computed per element.
 * A Feistel network permutes the smallest domain of an even number of bits that holds n; what falls
 * outside n is permuted again until it falls inside (cycle walking), so every n has its permutation. */
#ifndef CSC_DATA_READ_ORDER_H
#define CSC_DATA_READ_ORDER_H

#include <stdint.h>

enum shuffle { SHUFFLE_NONE, SHUFFLE_FULL, SHUFFLE_WINDOW };

enum { FEISTEL_ROUNDS = 6 };

struct feistel {
    uint64_t n;
    int half_bits; /* bits of one half of the domain */
    uint32_t keys[FEISTEL_ROUNDS];
};

/* The permutation of 0..n-1 that belongs to (seed, epoch, stream_id). n >= 1. */
void feistel_init(struct feistel *feistel, uint64_t n, uint64_t seed, int64_t epoch, uint64_t stream_id);
uint64_t feistel_permute(const struct feistel *feistel, uint64_t index);

/* One epoch's order. For SHUFFLE_WINDOW the set, rotated by a random amount, is cut into runs of
 * window / 64 neighbours; runs are permuted, then samples within each window of the result. So a
 * window reads from at most 65 stretches of the set, whatever its size. */
struct order {
    enum shuffle shuffle;
    uint64_t seed, n, window, run_length;
    int64_t epoch;
    uint64_t rotation;
    struct feistel permutation, run_order;
};

void order_init(struct order *order, enum shuffle shuffle, uint64_t n, uint64_t window, uint64_t seed, int64_t epoch);
/* The sample at a position of the epoch. */
uint64_t order_at(const struct order *order, uint64_t position);

/* How well an order mixes the set, 1 being a random permutation: how far samples move, and how seldom two samples that
 * are neighbours in the set meet in one batch (of `batch` samples). Measured on at most `max_positions` positions. */
struct order_quality {
    double displacement, separation;
};
struct order_quality order_measure(const struct order *order, uint64_t batch, uint64_t max_positions);

#endif
