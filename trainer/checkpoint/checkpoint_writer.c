/* checkpoint_writer.c - each write has a thread of its own, which ends with it. */
#include "trainer/checkpoint/checkpoint_writer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/clock.h"
#include "base/thread.h"

struct checkpoint_writer {
    char run[PATH_MAX];
    int keep;
    pthread_t thread;
    bool started;        /* the thread was started and is not joined yet */
    atomic_bool written; /* the thread is about to end */
    struct checkpoint_contents contents;
    struct checkpoint_result result;
};

/* A checkpoint that was written counts, even if old ones cannot be deleted. The next write tries that again. */
static enum status write_and_retain(struct checkpoint_writer *w)
{
    enum status status = STATUS_OK;
    TRY(checkpoint_write(w->run, &w->contents, w->result.path));
    TRY(checkpoint_retain(w->run, w->keep));
fail:
    return status;
}

static void *thread_main(void *context)
{
    struct checkpoint_writer *w = context;
    struct checkpoint_result *r = &w->result;
    pthread_setname_np(pthread_self(), "csc-checkpoint");
    affinity_unbind_thread();
    double start = clock_seconds();
    r->step = w->contents.state->step;
    status_clear();
    enum status status = write_and_retain(w);
    status_save(&r->record);
    r->record.code = status;
    r->seconds = clock_seconds() - start;
    w->written = true;
    return NULL;
}

enum status checkpoint_writer_create(struct checkpoint_writer **out, const char *run, int keep)
{
    struct checkpoint_writer *w = calloc(1, sizeof *w);
    if (!w)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    snprintf(w->run, sizeof w->run, "%s", run);
    w->keep = keep;
    *out = w;
    return STATUS_OK;
}

enum status checkpoint_writer_start(struct checkpoint_writer *w, const struct checkpoint_contents *contents)
{
    w->contents = *contents;
    w->written = false;
    int error = thread_start(&w->thread, thread_main, w);
    if (error)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "cannot start a thread: %s", strerror(error));
    w->started = true;
    return STATUS_OK;
}

bool checkpoint_writer_result(struct checkpoint_writer *w, bool wait, struct checkpoint_result *result)
{
    if (!w->started || (!wait && !w->written))
        return false;
    pthread_join(w->thread, NULL);
    w->started = false;
    *result = w->result;
    return true;
}

void checkpoint_writer_destroy(struct checkpoint_writer *w)
{
    if (!w)
        return;
    if (w->started)
        pthread_join(w->thread, NULL);
    free(w);
}
