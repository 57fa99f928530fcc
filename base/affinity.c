/* affinity.c - counts the affinity mask, which may be wider than cpu_set_t on large machines. */
#include "base/affinity.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
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

struct core {
    int package, core, cpu;
};

static int topology(int cpu, const char *what)
{
    char path[96];
    int value = 0;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%d", &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

static int by_place(const void *left, const void *right)
{
    const struct core *a = left, *b = right;
    return a->package != b->package ? a->package - b->package : a->core != b->core ? a->core - b->core : a->cpu - b->cpu;
}

int affinity_pin(int part, int parts, int threads)
{
    struct core cores[CPU_SETSIZE];
    cpu_set_t mask;
    int count = 0;
    const char *bind = getenv("OMP_PROC_BIND");
    if ((bind && strcasecmp(bind, "false") == 0) || sched_getaffinity(0, sizeof mask, &mask) != 0 ||
        CPU_COUNT(&mask) < machine_cores() || CPU_COUNT(&mask) < parts)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mask))
            cores[count++] = (struct core){ topology(cpu, "physical_package_id"), topology(cpu, "core_id"), cpu };
    int first = (int)((long)count * part / parts), last = (int)((long)count * (part + 1) / parts);
    if (last - first < threads || last - first < 2) /* a single core has no room for data workers */
        return 0;
    qsort(cores, count, sizeof *cores, by_place);
    CPU_ZERO(&mask);
    for (int i = first; i < last; i++)
        CPU_SET(cores[i].cpu, &mask);
    return sched_setaffinity(0, sizeof mask, &mask) == 0 ? last - first : 0;
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
