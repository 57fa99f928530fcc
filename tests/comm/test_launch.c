/* test_launch.c - how the environment variables of launchers are understood, and the messages about mismatches. */
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/comm.h"
#include "comm/launch.h"
#include "tests/check.h"

static const char *const variables[] = {
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_RANK",
    "PMI_SIZE",
    "PMI_RANK",
    "PMIX_NAMESPACE",
    "PMIX_RANK",
    "SLURM_STEP_ID",
    "SLURM_STEPID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_PROCID",
    "SLURM_NTASKS",
};

struct launch_case {
    const char *name;
    const char *environment; /* "A=1 B=2" */
    const char *launcher;    /* NULL: none */
    int rank, ranks;
};

static const struct launch_case cases[] = {
    { "alone", "", NULL, 0, 0 },
    { "Open MPI", "OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=3 PMIX_NAMESPACE=x PMIX_RANK=3", "mpirun", 3, 4 },
    { "MPICH", "PMI_SIZE=2 PMI_RANK=1", "mpirun", 1, 2 },
    { "MVAPICH", "MV2_COMM_WORLD_SIZE=2 MV2_COMM_WORLD_RANK=1", "mpirun", 1, 2 },
    { "mpirun in a job",
      "OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_RANK=5 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 "
      "SLURM_PROCID=1",
      "mpirun", 5, 8 },
    { "srun", "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=6 SLURM_PROCID=4", "srun", 4, 6 },
    { "srun, older", "SLURM_STEPID=3 SLURM_STEP_NUM_TASKS=6 SLURM_PROCID=4", "srun", 4, 6 },
    { "srun with pmi2", "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=6 SLURM_PROCID=4 PMI_SIZE=6 PMI_RANK=4", "srun", 4, 6 },
    { "srun with pmix", "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=6 SLURM_PROCID=4 PMIX_NAMESPACE=x", "srun", 4, 6 },
    { "one task of srun", "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0", "srun", 0, 1 },
    { "the batch script", "SLURM_STEP_ID=4294967291 SLURM_STEP_NUM_TASKS=6 SLURM_PROCID=0", NULL, 0, 0 },
    { "an allocation", "SLURM_NTASKS=6", NULL, 0, 0 },
    { "PMIx only", "PMIX_NAMESPACE=x PMIX_RANK=2", "a PMIx launcher", 2, 0 },
    { "nonsense", "OMPI_COMM_WORLD_SIZE=-4", NULL, 0, 0 },
    { "more nonsense", "OMPI_COMM_WORLD_SIZE=4x PMI_SIZE=99999999999999999999 MV2_COMM_WORLD_SIZE=", NULL, 0, 0 },
};

static void set_environment(const char *text)
{
    char copy[256], *rest = NULL;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value++ = 0;
        setenv(word, value, 1);
    }
}

static void check_read(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct launch_case *c = &cases[i];
        set_environment(c->environment);
        struct launch launch = launch_read();
        bool same = c->launcher ? launch.launcher && strcmp(launch.launcher, c->launcher) == 0 : !launch.launcher;
        CHECK(same, "%s: started by %s", c->name, launch.launcher ? launch.launcher : "none");
        CHECK(launch.rank == c->rank && launch.ranks == c->ranks, "%s: %d of %d", c->name, launch.rank, launch.ranks);
        CHECK(comm_should_report(NULL) == (c->rank == 0 || !launch_has_launcher()), "%s: rank %d", c->name, c->rank);
    }
}

/* Whether rank 1 without a communicator reports a failure, as a descendant of a process with this name. */
static bool reports_below(const char *name)
{
    int how = 0;
    set_environment("OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1");
    fflush(stdout);
    pid_t parent = fork();
    if (parent == 0) {
        prctl(PR_SET_NAME, name);
        pid_t child = fork();
        if (child == 0)
            _exit(comm_should_report(NULL));
        waitpid(child, &how, 0);
        _exit(WEXITSTATUS(how));
    }
    waitpid(parent, &how, 0);
    return WEXITSTATUS(how);
}

static void check_inherited(void)
{
    bool above = launch_has_launcher(); /* of this test itself */
    CHECK(!reports_below("mpirun") && !reports_below("orted") && !reports_below("slurmstepd"), "rank 0 reports it");
    CHECK(reports_below("a) 1 (shell") == !above, "variables that nobody set for this process");
}

static void check_messages(void)
{
    struct launch srun = { "srun", "SLURM_STEP_NUM_TASKS", 0, 4 }, mpirun = { "mpirun", "PMI_SIZE", 0, 4 };
    CHECK(launch_check(&srun, 4, "Open MPI") == STATUS_OK && launch_check(&mpirun, 8, "Open MPI") == STATUS_OK, "fits");
    CHECK(launch_check(&(struct launch){ 0 }, 1, NULL) == STATUS_OK, "alone");
    CHECK(launch_check(&srun, 1, "Open MPI v4") == STATUS_USAGE, "srun");
    CHECK(strstr(status_message(), "--mpi=pmix") && strstr(status_message(), "Open MPI v4"), "%s", status_message());
    CHECK(launch_check(&mpirun, 1, "Open MPI v4") == STATUS_USAGE, "mpirun");
    CHECK(strstr(status_message(), "PMI_SIZE") && strstr(status_message(), "1 rank "), "%s", status_message());
    CHECK(launch_check(&mpirun, 1, NULL) == STATUS_USAGE, "no MPI");
    CHECK(strstr(status_message(), "built without MPI"), "%s", status_message());
    CHECK(!strchr(status_message(), '\n'), "more than a line");
}

int main(void)
{
    check_read();
    check_inherited();
    check_messages();
    return check_done("launch");
}
