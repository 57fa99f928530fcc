/* launch.h - who started this process, as far as the environment tells. */
#ifndef CSC_COMM_LAUNCH_H
#define CSC_COMM_LAUNCH_H

#include <stdbool.h>

#include "base/status.h"

struct launch {
    const char *launcher; /* "mpirun", "srun"; NULL: none, this process is on its own */
    const char *variable; /* that told `ranks` */
    int rank;             /* as the launcher counts; 0 if unknown */
    int ranks;            /* promised by the launcher; 0 if unknown */
};

struct launch launch_read(void);

/* Whether a launcher is among this process's ancestors: else the variables were inherited, and no rank 0 speaks. */
bool launch_has_launcher(void);

/* Where the world of `size` ranks that MPI found is smaller than what the launcher promised: STATUS_USAGE,
 * saying what to do. library: such as "Open MPI v4.1.4", or NULL if built without MPI. */
enum status launch_check(const struct launch *launch, int size, const char *library);

#endif
