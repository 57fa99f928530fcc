/* launch.h - which launcher started this process, as its environment variables tell. */
#ifndef CSC_COMM_LAUNCH_H
#define CSC_COMM_LAUNCH_H

#include <stdbool.h>

#include "base/status.h"

struct launch {
    const char *launcher; /* "mpirun", "srun"; NULL if there is none */
    const char *variable; /* the environment variable that holds `ranks` */
    int rank;             /* as the launcher counts; 0 if unknown */
    int ranks;            /* number of ranks that the launcher started; 0 if unknown */
};

struct launch launch_read(void);

/* Whether a launcher is among this process's ancestors. If not, a process inherited the variables from an environment
 * such as a batch script's, and no rank 0 exists that would report its failures. */
bool launch_has_launcher(void);

/* STATUS_USAGE, with advice, if MPI's world of `size` ranks is smaller than what the launcher started. library: such as
 * "Open MPI v4.1.4", or NULL if MPI is not built in. */
enum status launch_check(const struct launch *launch, int size, const char *library);

#endif
