/* comm.c - what all communicators have in common: agreeing on failures, and sums that are waited for. */
#include "comm/comm.h"

#include <stdio.h>
#include <string.h>

#include "comm/comm_internal.h"
#include "comm/launch.h"

size_t comm_max_count = (size_t)1 << 30;

void comm_destroy(struct comm *comm)
{
    if (comm)
        comm->ops->destroy(comm);
}

enum status comm_start_and_wait_f32(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                    bool deterministic)
{
    enum status status = STATUS_OK;
    struct comm_request *request;
    TRY(comm->ops->all_reduce_start_f32(comm, data, count, wire, deterministic, &request));
    TRY(comm->ops->wait(comm, request));
fail:
    return status;
}

bool comm_should_report(const struct comm *comm)
{
    return comm ? !comm->other_rank_reports : launch_read().rank == 0 || !launch_has_launcher();
}

/* Makes `rank`'s failure this thread's report. */
static enum status adopt_failure(int rank, const struct status_record *record)
{
    struct status_record seen = { .code = record->code };
    snprintf(seen.message, sizeof seen.message, "rank %d failed: %s", rank, record->message);
    memcpy(seen.origin, record->origin, sizeof seen.origin);
    return status_restore(&seen);
}

enum status comm_agree(struct comm *comm, enum status own)
{
    enum status status = STATUS_OK;
    struct status_record record, chosen;
    status_save(&record);
    record.code = own;
    comm->other_rank_reports = false;
    if (comm->size == 1)
        return own;

    /* The maximum belongs to the lowest rank that failed. */
    int64_t first = own == STATUS_OK ? 0 : comm->size - comm->rank;
    TRY(comm->ops->all_reduce_max_i64(comm, &first, 1));
    if (!first)
        return STATUS_OK;
    int root = (int)(comm->size - first);
    chosen = record;
    TRY(comm->ops->broadcast(comm, &chosen, sizeof chosen, root));
    if (comm->rank == root)
        return own;
    comm->other_rank_reports = true;
    return adopt_failure(root, &chosen);
fail:
    return own == STATUS_OK ? status : status_restore(&record);
}
