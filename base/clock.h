/* clock.h - a monotonic clock for durations and timed waits. */
#ifndef CSC_BASE_CLOCK_H
#define CSC_BASE_CLOCK_H

#include <pthread.h>
#include <time.h>

/* Seconds since an arbitrary moment. */
static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of processor time that the calling thread has used. */
static inline double clock_thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of processor time that all threads of this process have used. */
static inline double clock_process_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Initialises a condition variable whose timed waits use this clock; clock_deadline is their end. */
static inline void clock_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static inline struct timespec clock_deadline(double seconds_from_now)
{
    double end = clock_seconds() + seconds_from_now;
    return (struct timespec){ .tv_sec = (time_t)end, .tv_nsec = (long)((end - (double)(time_t)end) * 1e9) };
}

#endif
