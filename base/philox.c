/* philox.c - Philox4x32-10 and numbers made from its blocks. */
#include "base/philox.h"

#include <math.h>

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void philox_init(struct philox *stream, uint64_t seed, uint32_t domain, uint64_t index)
{
    *stream = (struct philox){
        .key = { (uint32_t)seed, (uint32_t)(seed >> 32) },
        .counter = { 0, domain, (uint32_t)index, (uint32_t)(index >> 32) },
        .used = 4,
    };
}

uint32_t philox_u32(struct philox *stream)
{
    if (stream->used == 4) {
        philox4x32(stream->counter, stream->key, stream->block);
        stream->counter[0]++;
        stream->used = 0;
    }
    return stream->block[stream->used++];
}

double philox_uniform(struct philox *stream)
{
    uint64_t high = philox_u32(stream) >> 5, low = philox_u32(stream) >> 6;
    return (double)(high << 26 | low) * 0x1p-53;
}

uint32_t philox_below(struct philox *stream, uint32_t bound)
{
    uint32_t reject = -bound % bound; /* 2^32 mod bound */
    for (;;) {
        uint64_t product = (uint64_t)philox_u32(stream) * bound;
        if ((uint32_t)product >= reject)
            return (uint32_t)(product >> 32);
    }
}

double philox_normal(struct philox *stream)
{
    double radius = sqrt(-2.0 * log(1.0 - philox_uniform(stream)));
    return radius * cos(6.283185307179586 * philox_uniform(stream));
}
