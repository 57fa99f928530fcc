/* vector.h - a register of floats, as wide as the instruction set has them. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_VECTOR_H
#define CSC_LAYERS_BACKEND_CPU_ISA_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { WIDTH = 16 }; /* floats in it */
#elif defined(__AVX__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));

static inline vec load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

#endif
