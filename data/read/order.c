/* order.c - Feistel permutations with cycle walking, of all samples or in windows. */
#include "data/read/order.h"

#include <stdlib.h>

#include "base/philox.h"

enum { RUNS_PER_WINDOW = 64 };

/* Makes the permutation of 0 .. n-1 that belongs to (seed, epoch, stream_id). n must be at least 1. */
static void feistel_init(struct feistel *f, uint64_t n, uint64_t seed, int64_t epoch, uint64_t stream_id)
{
    struct philox stream;
    philox_init(&stream, seed, PHILOX_DOMAIN_ORDER | ((uint32_t)epoch & 0x0fffffffu), stream_id);
    f->n = n;
    for (f->half_bits = 1; f->half_bits < 31 && (uint64_t)1 << 2 * f->half_bits < n;)
        f->half_bits++;
    for (int i = 0; i < FEISTEL_ROUNDS; i++)
        f->keys[i] = philox_u32(&stream);
}

/* The round function: a bijective mixer of 32 bits. The caller takes as many bits as a half has. */
static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static uint64_t feistel_permute(const struct feistel *f, uint64_t index)
{
    uint32_t mask = (uint32_t)(((uint64_t)1 << f->half_bits) - 1);
    do {
        uint32_t left = (uint32_t)(index >> f->half_bits) & mask, right = (uint32_t)index & mask;
        for (int i = 0; i < FEISTEL_ROUNDS; i++) {
            uint32_t next = left ^ (mix(right ^ f->keys[i]) & mask);
            left = right;
            right = next;
        }
        index = (uint64_t)left << f->half_bits | right;
    } while (index >= f->n);
    return index;
}

void order_init(struct order *o, enum shuffle shuffle, uint64_t n, uint64_t window, uint64_t seed, int64_t epoch)
{
    *o = (struct order){ .shuffle = shuffle, .seed = seed, .n = n, .epoch = epoch };
    if (shuffle == SHUFFLE_FULL)
        feistel_init(&o->permutation, n, seed, epoch, 0);
    if (shuffle != SHUFFLE_WINDOW)
        return;
    o->window = window < 1 ? 1 : window > n ? n : window;
    o->run_length = o->window / RUNS_PER_WINDOW ? o->window / RUNS_PER_WINDOW : 1;
    if (o->run_length > n)
        o->run_length = n;
    feistel_init(&o->run_order, n / o->run_length, seed, epoch, 0);
    feistel_init(&o->permutation, n, seed, epoch, 1);
    o->rotation = feistel_permute(&o->permutation, 0);
}

uint64_t order_at(const struct order *o, uint64_t position)
{
    if (o->shuffle == SHUFFLE_NONE)
        return position;
    if (o->shuffle == SHUFFLE_FULL)
        return feistel_permute(&o->permutation, position);
    struct feistel within;
    uint64_t begin = position / o->window * o->window;
    uint64_t size = o->n - begin < o->window ? o->n - begin : o->window;
    feistel_init(&within, size, o->seed, o->epoch, 2 + begin / o->window);
    uint64_t shuffled = begin + feistel_permute(&within, position - begin);
    uint64_t runs = o->n / o->run_length, sample = shuffled;
    if (shuffled < runs * o->run_length)
        sample = feistel_permute(&o->run_order, shuffled / o->run_length) * o->run_length + shuffled % o->run_length;
    return (sample + o->rotation) % o->n; /* so that the samples after the last whole run differ from epoch to epoch */
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct order_quality order_measure(const struct order *o, uint64_t batch, uint64_t max_positions)
{
    uint64_t batches = o->n / batch,
             step = batches * batch > max_positions && max_positions >= batch ? batches / (max_positions / batch) : 1;
    double moved = 0, meetings = 0, samples = 0, batches_seen = 0;
    uint64_t *ids = batch ? malloc(batch * sizeof *ids) : NULL;
    struct order_quality q = { 1, 1 };
    if (!ids || o->n < 2 || !batches)
        goto end;
    for (uint64_t b = 0; b < batches; b += step, batches_seen++) {
        for (uint64_t i = 0; i < batch; i++, samples++) {
            ids[i] = order_at(o, b * batch + i);
            moved += ids[i] > b * batch + i ? (double)(ids[i] - b * batch - i) : (double)(b * batch + i - ids[i]);
        }
        qsort(ids, batch, sizeof *ids, compare);
        for (uint64_t i = 1; i < batch; i++)
            meetings += ids[i] == ids[i - 1] + 1;
    }
    double n = (double)o->n,
           expected = batches_seen * (double)batch * ((double)batch - 1) / n; /* neighbours in one batch by chance */
    q.displacement = moved / samples / (n / 3);
    q.separation = meetings > expected ? expected / meetings : 1;
end:
    free(ids);
    return q;
}
