/* element.h - one element of an activation in host memory: fp32, or bf16, the upper half of an fp32. */
#ifndef CSC_LAYERS_BACKEND_ELEMENT_H
#define CSC_LAYERS_BACKEND_ELEMENT_H

#include "base/bf16.h"
#include "layers/backend/backend.h"

typedef uint16_t bf16;

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
