/* nccl_none.c - compiled instead of nccl.c where NCCL is not built in. */
#include "comm/nccl.h"

enum status comm_nccl_check(struct comm *host_comm)
{
    if (host_comm->size == 1)
        return status_report(STATUS_USAGE, __FILE__, __LINE__, "this build has no NCCL: build with -Dnccl=enabled");
    return status_report(
        STATUS_USAGE, __FILE__, __LINE__,
        "this build has no NCCL, so %d ranks cannot sum gradients on GPUs: use one rank, or build with "
        "-Dnccl=enabled",
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
