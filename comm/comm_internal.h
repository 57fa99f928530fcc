/* comm_internal.h - what the files of comm/ share. */
#ifndef CSC_COMM_COMM_INTERNAL_H
#define CSC_COMM_COMM_INTERNAL_H

#include "comm/comm.h"

enum status comm_self_create(struct comm **comm);
enum status comm_mpi_create(struct comm **comm);

/* Most elements in one MPI call, whose counts are ints. A variable so that the tests can make it small;
 * the same on all ranks. */
extern size_t comm_max_count;

#endif
