/* checkpoint_writer.c - one write at a time: IDLE -> WRITING -> WRITTEN -> IDLE. Taking the result makes it IDLE
 * again. */
#include "trainer/checkpoint/checkpoint_writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/clock.h"
#include "base/thread.h"

struct checkpoint_writer {
    char run[PATH_MAX];
    int keep;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake, written;
    enum { IDLE, WRITING, WRITTEN } state;
    bool ending;
    bool whole; /* it writes contents; otherwise part */
    struct checkpoint_contents contents;
    struct checkpoint_part part;
    bool parts_known; /* only with contents.parts; so are the next two */
    struct status_record parts_outcome;
    struct checkpoint_digest parts_digests[CHECKPOINT_PARTS];
    struct checkpoint_result result;
};

static enum status await_parts(void *context, struct checkpoint_digest *digests)
{
    enum status status = STATUS_OK;
    struct checkpoint_writer *w = context;
    pthread_mutex_lock(&w->mutex);
    while (!w->parts_known && !w->ending)
        pthread_cond_wait(&w->wake, &w->mutex);
    if (!w->parts_known)
        FAIL(STATUS_STOPPED, "the run ended before all parts were written");
    memcpy(digests, w->parts_digests, (size_t)w->contents.parts * sizeof *digests);
    TRY(status_restore(&w->parts_outcome));
fail:
    pthread_mutex_unlock(&w->mutex);
    return status;
}

/* A checkpoint that was written counts, even if old ones cannot be deleted. The next write tries that again. */
static enum status write_whole(struct checkpoint_writer *w)
{
    enum status status = STATUS_OK;
    w->result.step = w->contents.state->step;
    TRY(checkpoint_write(w->run, &w->contents, w->result.path));
    TRY(checkpoint_retain(w->run, w->keep));
fail:
    return status;
}

static void write_one(struct checkpoint_writer *w)
{
    struct checkpoint_result *r = &w->result;
    double start = clock_seconds();
    status_clear();
    enum status status = w->whole ? write_whole(w) : checkpoint_write_part(w->run, &w->part, &r->digest);
    status_save(&r->record);
    r->record.code = status;
    r->seconds = clock_seconds() - start;
}

static void *thread_main(void *context)
{
    struct checkpoint_writer *w = context;
    pthread_setname_np(pthread_self(), "csc-checkpoint");
    affinity_unbind_thread();
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
    struct checkpoint_writer *w = calloc(1, sizeof *w);
    if (!w)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    snprintf(w->run, sizeof w->run, "%s", run);
    w->keep = keep;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    pthread_cond_init(&w->written, NULL);
    int error = thread_start(&w->thread, thread_main, w);
    if (error) {
        free(w);
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "cannot start a thread: %s", strerror(error));
    }
    *out = w;
    return STATUS_OK;
}

/* Wakes the thread, which is idle, after its caller has set what to write. */
static void start(struct checkpoint_writer *w)
{
    pthread_mutex_lock(&w->mutex);
    w->state = WRITING;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

void checkpoint_writer_start(struct checkpoint_writer *w, const struct checkpoint_contents *contents)
{
    w->whole = true;
    w->contents = *contents;
    w->contents.await_parts = await_parts;
    w->contents.context = w;
    w->parts_known = false;
    start(w);
}

void checkpoint_writer_start_part(struct checkpoint_writer *w, const struct checkpoint_part *part)
{
    w->whole = false;
    w->part = *part;
    start(w);
}

void checkpoint_writer_set_parts(struct checkpoint_writer *w, const struct status_record *outcome,
                                 const struct checkpoint_digest *digests)
{
    pthread_mutex_lock(&w->mutex);
    w->parts_known = true;
    w->parts_outcome = *outcome;
    memcpy(w->parts_digests, digests, (size_t)w->contents.parts * sizeof *digests);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

bool checkpoint_writer_busy(struct checkpoint_writer *w)
{
    pthread_mutex_lock(&w->mutex);
    bool busy = w->state == WRITING;
    pthread_mutex_unlock(&w->mutex);
    return busy;
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
