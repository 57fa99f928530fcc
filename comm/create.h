/* create.h - opens the communicator of this process. */
#ifndef CSC_COMM_CREATE_H
#define CSC_COMM_CREATE_H

#include "comm/comm.h"

/* Collective. Uses MPI if it is built in and a launcher (mpirun, srun) started more than this process, and else a
 * single process. STATUS_USAGE if the launcher started more ranks than MPI finds: launcher and library do not match. */
enum status comm_create(struct comm **comm);

#endif
