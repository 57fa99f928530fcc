/* thread.h - starts threads with all signals blocked, so that the main thread handles them. */
#ifndef CSC_BASE_THREAD_H
#define CSC_BASE_THREAD_H

#include <pthread.h>

/* Starts a thread that calls run(context). Returns 0 or an error number, as pthread_create does. */
int thread_start(pthread_t *thread, void *(*run)(void *), void *context);

/* Threads that call the same function. Zero-initialise them. */
struct threads {
    pthread_t *list; /* (count) */
    int count;
};

/* Starts `wanted` threads, or as many as can be started, and returns their number. */
int threads_start(struct threads *threads, int wanted, void *(*run)(void *), void *context);

/* Waits until all of them have ended. */
void threads_join(struct threads *threads);

#endif
