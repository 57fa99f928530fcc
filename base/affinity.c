/* affinity.c - the affinity mask that the process had before OpenMP's run-time library changed it, limited by control
 * groups and by OpenMP's binding variables. */
#include "base/affinity.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/integer.h"
#include "base/log.h"

/* ---- the cores of this process ---- */

enum { MASK_BYTES = 8192 }; /* 65,536 processors */

/* The affinity mask that this process started with or was given by affinity_pin. OpenMP's run-time library binds the
 * main thread to a part of it, before main, if a binding variable says so. */
static unsigned char mask[MASK_BYTES];
static volatile long mask_bytes; /* 0 or less if unknown; volatile because it is set before constructors, which
                                    compilers do not expect */

__attribute__((no_sanitize("address", "undefined"))) static void note_mask(void)
{
    mask_bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
}

/* Runs before any library is initialised, the sanitizers included. */
__attribute__((section(".preinit_array"), used)) static void (*note_mask_first)(void) = note_mask;

/* A program built with clang uses LLVM's OpenMP, which starts at its first use. If oneDNN brings GNU's too, that has
 * bound the main thread by now, and LLVM's would take this part for the whole machine. */
#ifdef __clang__
__attribute__((constructor)) static void undo_first_binding(void)
{
    if (mask_bytes > 0)
        syscall(SYS_sched_setaffinity, 0, (size_t)mask_bytes, mask);
}
#endif

static int machine_cores(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int group = cgroup_cpuset("");
    return cores <= 0 ? 1 : group > 0 && group < cores ? group : (int)cores;
}

static int mask_cores(void)
{
    int cores = 0;
    for (long i = 0; i < mask_bytes; i++)
        cores += __builtin_popcount(mask[i]);
    return cores ? cores : machine_cores();
}

/* Returns the name of the binding variable that is set, or NULL. */
static const char *binding(void)
{
    static const char *const names[] = { "GOMP_CPU_AFFINITY", "OMP_PLACES", "OMP_PROC_BIND" };
    const char *bind = getenv("OMP_PROC_BIND");
    if (bind && strcasecmp(bind, "false") == 0)
        return NULL;
    for (int i = 0; i < 3; i++)
        if (getenv(names[i]))
            return names[i];
    return NULL;
}

/* The number of cores that it leaves to OpenMP's threads. */
extern int omp_get_num_places(void) __attribute__((weak)); /* csc-pack has no OpenMP */
extern int omp_get_place_num_procs(int place) __attribute__((weak));

static int place_cores(void)
{
    int cores = 0;
    if (!binding() || !omp_get_num_places || !omp_get_place_num_procs)
        return INT_MAX;
    for (int i = 0; i < omp_get_num_places(); i++)
        cores += omp_get_place_num_procs(i);
    return cores ? cores : INT_MAX;
}

int affinity_cores_per_rank(int local_ranks)
{
    int cores = mask_cores();
    double quota = fmax(1, round(cgroup_cpus("") / local_ranks));
    if (cores >= machine_cores()) /* not bound: the ranks of this host share all cores */
        cores /= local_ranks;
    cores = min_int(cores, place_cores());
    return cores > quota ? (int)quota : cores > 0 ? cores : 1;
}

int affinity_cores(void)
{
    return affinity_cores_per_rank(1);
}

void affinity_unbind_thread(void)
{
    if (binding() && mask_bytes > 0)
        sched_setaffinity(0, (size_t)mask_bytes, (const cpu_set_t *)mask);
}

/* ---- binding ---- */

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

static int by_core(const void *left, const void *right)
{
    const struct core *a = left, *b = right;
    return a->package != b->package ? a->package - b->package
           : a->core != b->core     ? a->core - b->core
                                    : a->cpu - b->cpu;
}

int affinity_pin(int part, int parts, int threads)
{
    struct core cores[CPU_SETSIZE];
    cpu_set_t own;
    int count = 0;
    const char *bind = getenv("OMP_PROC_BIND");
    if (binding() || (bind && strcasecmp(bind, "false") == 0) || sched_getaffinity(0, sizeof own, &own) != 0 ||
        CPU_COUNT(&own) < machine_cores() || CPU_COUNT(&own) < parts)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &own))
            cores[count++] = (struct core){ topology(cpu, "physical_package_id"), topology(cpu, "core_id"), cpu };
    int first = (int)((long)count * part / parts), last = (int)((long)count * (part + 1) / parts);
    if (last - first < threads || last - first < 2) /* data workers need a second core */
        return 0;
    qsort(cores, count, sizeof *cores, by_core);
    CPU_ZERO(&own);
    for (int i = first; i < last; i++)
        CPU_SET(cores[i].cpu, &own);
    if (sched_setaffinity(0, sizeof own, &own) != 0)
        return 0;
    note_mask();
    return last - first;
}

/* Advice how to tell the launcher not to bind processes. */
static const char *advice(void)
{
    if (getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE"))
        return ": start mpirun with --bind-to none";
    return getenv("SLURM_PROCID") ? ": start srun with --cpu-bind=none" : "";
}

void affinity_warn(int threads, int workers, int local_ranks)
{
    int cores = mask_cores(), machine = machine_cores(), places = place_cores();
    double quota = cgroup_cpus("");
    bool idle = (long)cores * local_ranks < machine;
    bool crowded = threads > cores || (cores == 1 && workers > 0);
    if (threads > places)
        log_warn("%s leaves %d of %d cores to %d compute threads", binding(), places, cores, threads);
    else if (binding() && local_ranks > 1 && cores >= machine)
        log_warn("%s binds the threads of all %d ranks of this host to the same cores: unset it, or let the launcher "
                 "bind each rank to its own",
                 binding(), local_ranks);
    else if (idle && crowded)
        log_warn("bound to %d of this machine's %d cores, with %d compute threads and %d data workers%s", cores,
                 machine, threads, workers, advice());
    if (threads > 1 && (double)threads * local_ranks > ceil(quota))
        log_warn("%d compute threads of %d rank%s share %.3g cores, all that the control group (container) may use",
                 threads * local_ranks, local_ranks, local_ranks == 1 ? "" : "s", quota);
}

void affinity_limit_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME"))
        return;
    setenv("GOMP_SPINCOUNT", "1000", 1);
    setenv("KMP_BLOCKTIME", "0", 1);
    affinity_unbind_thread();      /* OpenMP then uses all cores when it starts again */
    execv("/proc/self/exe", argv); /* if this fails, the program just goes on */
}
