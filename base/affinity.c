/* affinity.c - counts the affinity mask, which may be wider than cpu_set_t on large machines. */
#include "base/affinity.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

static int machine_cores(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? (int)cores : 1;
}

int affinity_cores(void)
{
    for (int width = CPU_SETSIZE; width <= 1 << 20; width *= 4) {
        cpu_set_t *mask = CPU_ALLOC(width);
        if (!mask)
            break;
        bool read = sched_getaffinity(0, CPU_ALLOC_SIZE(width), mask) == 0;
        bool narrow = !read && errno == EINVAL;
        int cores = read ? CPU_COUNT_S(CPU_ALLOC_SIZE(width), mask) : 0;
        CPU_FREE(mask);
        if (cores > 0)
            return cores;
        if (!narrow)
            break;
    }
    return machine_cores();
}

void affinity_warn(int threads, int workers, int local_ranks)
{
    int cores = affinity_cores(), machine = machine_cores();
    bool idle = (long)cores * local_ranks < machine;
    bool crowded = threads > cores || (cores == 1 && workers > 0);
    if (idle && crowded)
        log_warn("bound to %d of this machine's %d cores, with %d compute threads and %d data workers: start mpirun "
                 "with --bind-to none (srun: --cpu-bind=none)", cores, machine, threads, workers);
}

void affinity_wait_calmly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME"))
        return;
    setenv("GOMP_SPINCOUNT", "1000", 1);
    setenv("KMP_BLOCKTIME", "0", 1);
    execv("/proc/self/exe", argv); /* where that fails, the program just goes on */
}
