/* thread.c - blocks the signals while a thread is created, which inherits that. */
#include "base/thread.h"

#include <signal.h>
#include <stdlib.h>

int thread_start(pthread_t *thread, void *(*run)(void *), void *context)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int threads_start(struct threads *threads, int wanted, void *(*run)(void *), void *context)
{
    threads->list = calloc((size_t)wanted, sizeof *threads->list);
    threads->count = 0;
    while (threads->list && threads->count < wanted && thread_start(&threads->list[threads->count], run, context) == 0)
        threads->count++;
    return threads->count;
}

void threads_join(struct threads *threads)
{
    while (threads->count > 0)
        pthread_join(threads->list[--threads->count], NULL);
    free(threads->list);
    threads->list = NULL;
}
