/* integer.h - arithmetic with integers that C lacks. */
#ifndef CSC_BASE_INTEGER_H
#define CSC_BASE_INTEGER_H

#include <stddef.h>
#include <stdint.h>

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
}

static inline int max_int(int a, int b)
{
    return a > b ? a : b;
}

/* a / b rounded up, for a >= 0 and b > 0. */
static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The first multiple of `multiple` that is not below `value`. */
static inline size_t round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

#endif
