/* create.c - chooses between the communicators. */
#include "comm/create.h"

#include "comm/comm_internal.h"
#include "comm/launch.h"

enum status comm_create(struct comm **comm)
{
    struct launch launch = launch_read();
#ifdef CSC_HAVE_MPI
    if (launch.launcher && launch.ranks != 1) /* a single process does without MPI_Init, which takes most of a second */
        return comm_mpi_create(comm);
#else
    if (launch_check(&launch, 1, NULL) != STATUS_OK)
        return STATUS_USAGE;
#endif
    return comm_self_create(comm);
}
