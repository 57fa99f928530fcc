/* self.c - the communicator of a single process, for which every reduction is already done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/comm_internal.h"

static enum status self_broadcast(struct comm *comm, void *data, size_t bytes, int root)
{
    (void)comm, (void)data, (void)bytes, (void)root;
    return STATUS_OK;
}

static enum status self_all_reduce_f64(struct comm *comm, double *data, size_t count)
{
    (void)comm, (void)data, (void)count;
    return STATUS_OK;
}

/* Nothing is sent, so nothing is rounded to `wire`. */
static enum status self_all_reduce_start_f32(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                             bool deterministic, struct comm_request **request)
{
    (void)comm, (void)data, (void)count, (void)wire, (void)deterministic;
    *request = NULL;
    return STATUS_OK;
}

static enum status self_progress(struct comm *comm)
{
    (void)comm;
    return STATUS_OK;
}

static enum status self_wait(struct comm *comm, struct comm_request *request)
{
    (void)comm, (void)request;
    return STATUS_OK;
}

static enum status self_all_reduce_max_i64(struct comm *comm, int64_t *data, size_t count)
{
    (void)comm, (void)data, (void)count;
    return STATUS_OK;
}

static enum status self_all_gather(struct comm *comm, const void *data, size_t bytes, void *out)
{
    (void)comm;
    if (bytes)
        memmove(out, data, bytes);
    return STATUS_OK;
}

static enum status self_barrier(struct comm *comm)
{
    (void)comm;
    return STATUS_OK;
}

static void __attribute__((noreturn)) self_abort(struct comm *comm, int exit_code)
{
    (void)comm;
    fflush(NULL);
    _exit(exit_code);
}

static void self_destroy(struct comm *comm)
{
    free(comm);
}

static const struct comm_ops self_ops = {
    .name = "self",
    .broadcast = self_broadcast,
    .all_reduce_f32 = comm_start_and_wait_f32,
    .all_reduce_f64 = self_all_reduce_f64,
    .all_reduce_start_f32 = self_all_reduce_start_f32,
    .progress = self_progress,
    .wait = self_wait,
    .all_reduce_max_i64 = self_all_reduce_max_i64,
    .all_gather = self_all_gather,
    .barrier = self_barrier,
    .abort = self_abort,
    .destroy = self_destroy,
};

enum status comm_self_create(struct comm **out)
{
    enum status status = STATUS_OK;
    struct comm *comm = malloc(sizeof *comm);
    if (!comm)
        FAIL(STATUS_NOMEM, "out of memory");
    *comm = (struct comm){ .ops = &self_ops, .size = 1, .local_size = 1 };
    *out = comm;
fail:
    return status;
}
