/* clock.h - a clock for measuring durations. */
#ifndef CSC_BASE_CLOCK_H
#define CSC_BASE_CLOCK_H

#include <time.h>

/* Seconds since some moment; never set back. */
static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
