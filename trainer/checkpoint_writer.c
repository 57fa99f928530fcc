/* checkpoint_writer.c - one write at a time: IDLE -> WRITING -> WRITTEN -> IDLE, the last when the result is taken. */
#include "trainer/checkpoint_writer.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct checkpoint_writer {
    char run[PATH_MAX];
    int keep;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake, written;
    enum { IDLE, WRITING, WRITTEN } state;
    bool ending;
    struct checkpoint_contents contents;
    struct checkpoint_result result;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A checkpoint that was written counts, even if old ones cannot be cleared away: the next write tries again. */
static void write_one(struct checkpoint_writer *w)
{
    struct checkpoint_result *r = &w->result;
    double start = now();
    status_clear();
    r->step = w->contents.state->step;
    enum status status = checkpoint_write(w->run, &w->contents, r->path);
    if (status == STATUS_OK)
        status = checkpoint_retain(w->run, w->keep);
    status_save(&r->record);
    r->record.code = status;
    r->seconds = now() - start;
}

static void *thread_main(void *context)
{
    struct checkpoint_writer *w = context;
    pthread_setname_np(pthread_self(), "csc-checkpoint");
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (w->state != WRITING && !w->ending)
            pthread_cond_wait(&w->wake, &w->mutex);
        if (w->state != WRITING)
            break;
        pthread_mutex_unlock(&w->mutex);
        write_one(w);
        pthread_mutex_lock(&w->mutex);
        w->state = WRITTEN;
        pthread_cond_signal(&w->written);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

enum status checkpoint_writer_create(struct checkpoint_writer **out, const char *run, int keep)
{
    sigset_t all, before;
    struct checkpoint_writer *w = calloc(1, sizeof *w);
    if (!w)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    snprintf(w->run, sizeof w->run, "%s", run);
    w->keep = keep;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    pthread_cond_init(&w->written, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    int error = pthread_create(&w->thread, NULL, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        free(w);
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "cannot start a thread: %s", strerror(error));
    }
    *out = w;
    return STATUS_OK;
}

void checkpoint_writer_start(struct checkpoint_writer *w, const struct checkpoint_contents *contents)
{
    pthread_mutex_lock(&w->mutex);
    w->contents = *contents;
    w->state = WRITING;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

bool checkpoint_writer_result(struct checkpoint_writer *w, bool wait, struct checkpoint_result *result)
{
    pthread_mutex_lock(&w->mutex);
    while (wait && w->state == WRITING)
        pthread_cond_wait(&w->written, &w->mutex);
    bool there = w->state == WRITTEN;
    if (there) {
        *result = w->result;
        w->state = IDLE;
    }
    pthread_mutex_unlock(&w->mutex);
    return there;
}

void checkpoint_writer_destroy(struct checkpoint_writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->ending = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->wake);
    pthread_cond_destroy(&w->written);
    free(w);
}
