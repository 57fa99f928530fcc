/* comm.c - chooses the communicator, and agrees on failures. */
#include "comm/comm.h"

#include <stdio.h>
#include <string.h>

#include "comm/comm_internal.h"
#include "comm/launch.h"
#include "comm/nccl.h"

size_t comm_max_count = (size_t)1 << 30;

enum status comm_create(struct comm **comm)
{
    struct launch launch = launch_read();
#ifdef CSC_HAVE_MPI
    if (launch.launcher && launch.ranks != 1) /* MPI_Init takes most of a second: not for one process */
        return comm_mpi_create(comm);
#else
    if (launch_check(&launch, 1, NULL) != STATUS_OK)
        return STATUS_USAGE;
#endif
    return comm_self_create(comm);
}

#ifndef CSC_HAVE_NCCL
enum status comm_nccl_check(struct comm *host_comm)
{
    if (host_comm->size == 1)
        return status_report(STATUS_USAGE, __FILE__, __LINE__, "this build has no NCCL: build with -Dnccl=enabled");
    return status_report(STATUS_USAGE, __FILE__, __LINE__,
                         "this build has no NCCL, so %d ranks cannot sum gradients on "
                         "GPUs: use one, or build with -Dnccl=enabled",
                         host_comm->size);
}

enum status comm_nccl_allocate(void **memory, size_t bytes)
{
    (void)memory;
    return status_report(STATUS_BUG, __FILE__, __LINE__, "%zu bytes for NCCL, which this build does not have", bytes);
}

void comm_nccl_free(void *memory)
{
    (void)memory;
}

enum status comm_nccl_create(struct comm **comm, struct comm *host_comm, void *stream, float *memory, size_t count,
                             enum comm_dtype wire, double timeout_s)
{
    (void)comm, (void)stream, (void)memory, (void)count, (void)wire, (void)timeout_s;
    return comm_nccl_check(host_comm);
}
#endif

void comm_destroy(struct comm *comm)
{
    if (comm)
        comm->ops->destroy(comm);
}

bool comm_should_report(const struct comm *comm)
{
    return comm ? !comm->other_rank_reports : launch_read().rank == 0 || !launch_has_launcher();
}

/* Takes over the record of `rank`, as seen from another. */
static enum status adopt_failure(int rank, const struct status_record *record)
{
    struct status_record seen = { .code = record->code };
    snprintf(seen.message, sizeof seen.message, "rank %d failed: %s", rank, record->message);
    memcpy(seen.origin, record->origin, sizeof seen.origin);
    return status_restore(&seen);
}

enum status comm_agree(struct comm *comm, enum status mine)
{
    enum status status = STATUS_OK;
    struct status_record own, chosen;
    status_save(&own);
    own.code = mine;
    comm->other_rank_reports = false;
    if (comm->size == 1)
        return mine;

    int64_t first = mine == STATUS_OK ? 0 : comm->size - comm->rank; /* the lowest failing rank wins */
    TRY(comm->ops->all_reduce_max_i64(comm, &first, 1));
    if (!first)
        return STATUS_OK;
    int root = (int)(comm->size - first);
    chosen = own;
    TRY(comm->ops->broadcast(comm, &chosen, sizeof chosen, root));
    if (comm->rank == root)
        return mine;
    comm->other_rank_reports = true;
    return adopt_failure(root, &chosen);
fail:
    return mine == STATUS_OK ? status : status_restore(&own);
}
