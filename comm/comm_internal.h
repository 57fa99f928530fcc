/* comm_internal.h - what the implementations of a communicator share with comm/create.c and the tests. */
#ifndef CSC_COMM_COMM_INTERNAL_H
#define CSC_COMM_COMM_INTERNAL_H

#include "comm/comm.h"

enum status comm_self_create(struct comm **comm); /* a single process */
enum status comm_mpi_create(struct comm **comm);

/* all_reduce_f32 for communicators to which nothing faster is known. */
enum status comm_start_and_wait_f32(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                    bool deterministic);

/* Maximum number of elements in one MPI call, whose counts are ints; the same on all ranks. Tests make it small. */
extern size_t comm_max_count;

#endif
