/* element.h - one element of an activation in host memory: fp32, or bf16, the upper half of an fp32. */
#ifndef CSC_LAYERS_BACKEND_ELEMENT_H
#define CSC_LAYERS_BACKEND_ELEMENT_H

#include <string.h>

#include "layers/backend/backend.h"

typedef uint16_t bf16;

static inline float bf16_to_float(bf16 value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Rounds to the nearest bf16, ties to even, as hardware does; a NaN stays a NaN. Branch-free, so that loops
 * vectorise. */
static inline bf16 bf16_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
    return (bf16)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

static inline float element_load(enum precision precision, const void *data, size_t i)
{
    return precision == PRECISION_BF16 ? bf16_to_float(((const bf16 *)data)[i]) : ((const float *)data)[i];
}

static inline void element_store(enum precision precision, void *data, size_t i, float value)
{
    if (precision == PRECISION_BF16)
        ((bf16 *)data)[i] = bf16_from_float(value);
    else
        ((float *)data)[i] = value;
}

#endif
