/* launch.c - reads the environment variables of launchers.
 * mpirun's own variables come first: inside a SLURM job, Open MPI and MPICH start one daemon per node through srun, so
 * their ranks also inherit the variables of a SLURM step, which count daemons. */
#include "comm/launch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct source {
    const char *launcher, *ranks, *rank;
} sources[] = {
    { "mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK" }, /* Open MPI */
    { "mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK" },   /* MVAPICH */
    { "mpirun", "PMI_SIZE", "PMI_RANK" },                         /* MPICH, Intel MPI */
};

/* Returns the number, or -1 if the variable is missing or anything but a number >= 0. */
static long env_number(const char *name)
{
    const char *text = getenv(name);
    if (!text || *text < '0' || *text > '9')
        return -1;
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    return errno || *end ? -1 : value;
}

static int env_count(const char *name)
{
    long value = env_number(name);
    return value > 0 && value <= INT_MAX ? (int)value : 0;
}

/* SLURM numbers the steps of batch scripts and other special steps from 0xfffffff0; those have one process. */
static bool in_srun_step(void)
{
    long step = env_number("SLURM_STEP_ID");
    if (step < 0)
        step = env_number("SLURM_STEPID");
    return step >= 0 && step < 0xfffffff0L && env_number("SLURM_PROCID") >= 0;
}

/* Returns the parent of a process and its program's name; 0 if unknown. */
static long parent_of(long pid, char name[64])
{
    char path[48], text[512] = "";
    long parent = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || sscanf(close, ") %*c %ld", &parent) != 1)
        return 0;
    snprintf(name, 64, "%.*s", (int)(close - open - 1), open + 1);
    return parent;
}

bool launch_has_launcher(void)
{
    static const char *const launchers[] = { "mpirun",     "mpiexec", "orterun",         "orted",
                                             "prterun",    "prted",   "hydra_pmi_proxy", "mpiexec.hydra",
                                             "mpirun_rsh", "srun",    "slurmstepd" };
    char name[64];
    for (long pid = parent_of(getpid(), name); pid > 1;) {
        pid = parent_of(pid, name);
        for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
            if (strcmp(name, launchers[i]) == 0)
                return true;
    }
    return false;
}

struct launch launch_read(void)
{
    int tasks = in_srun_step() ? env_count("SLURM_STEP_NUM_TASKS") : 0;
    if (tasks && env_count("PMI_SIZE") == tasks &&
        env_number("PMI_RANK") == env_number("SLURM_PROCID")) /* --mpi=pmi2 */
        return (struct launch){ "srun", "PMI_SIZE", env_count("PMI_RANK"), tasks };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        const struct source *s = &sources[i];
        if (env_count(s->ranks))
            return (struct launch){ s->launcher, s->ranks, env_count(s->rank), env_count(s->ranks) };
    }
    if (tasks)
        return (struct launch){ "srun", "SLURM_STEP_NUM_TASKS", env_count("SLURM_PROCID"), tasks };
    if (getenv("PMIX_NAMESPACE"))
        return (struct launch){ "a PMIx launcher", "PMIX_NAMESPACE", env_count("PMIX_RANK"), 0 };
    return (struct launch){ 0 };
}

enum status launch_check(const struct launch *launch, int size, const char *library)
{
    enum status status = STATUS_OK;
    if (size >= launch->ranks)
        return STATUS_OK;
    bool srun = launch->launcher[0] == 's';
    if (!library)
        FAIL(STATUS_USAGE,
             "%s started %d processes (%s), but this program was built without MPI: run one "
             "process, or build with -Dmpi=enabled",
             launch->launcher, launch->ranks, launch->variable);
    FAIL(STATUS_USAGE, "%s started %d processes (%s), but each sees %d rank%s through %s: %s", launch->launcher,
         launch->ranks, launch->variable, size, size == 1 ? "" : "s", library,
         srun ? "use srun --mpi=pmix (srun --mpi=list shows what there is), or mpirun inside the allocation"
              : "use the mpirun of the MPI that this program was built with");
fail:
    return status;
}
