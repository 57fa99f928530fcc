/* comm.c - what all communicators have in common: agreeing on failures. */
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
