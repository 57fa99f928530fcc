/* csc_train.c - the program csc-train: reads options and configuration on every rank, trains, and ends the job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/log.h"
#include "base/options.h"
#include "comm/create.h"
#include "comm/watchdog/watchdog.h"
#include "data/read/dataset.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"
#include "trainer/model/load_model.h"
#include "trainer/train/loop.h"
#include "trainer/train/stop.h"

static const char usage[] =
    "usage: csc-train CONFIG.yaml [key=value ...] [options]\n"
    "       mpirun -np N csc-train CONFIG.yaml [key=value ...] [options]\n"
    "       csc-train --list-checkpoints RUN\n"
    "\n"
    "Trains a ResNet or an SDNet as the configuration says, in one process or on N ranks.\n"
    "CONFIG.yaml is a path; if there is no such file, it is searched for in $CSC_CONFIG_DIR and\n"
    "then among the installed configurations. key=value overrides a key of the file, for\n"
    "example train.lr=0.05.\n"
    "\n"
    "options:\n"
    "  --resume=auto|PATH       resume from the newest valid checkpoint of the run, or from the\n"
    "                           checkpoint PATH. Without this option, csc-train refuses to write\n"
    "                           to a run that already has checkpoints\n"
    "  --change=KEY[,KEY...]    with --resume: keys whose values may differ from the checkpoint's.\n"
    "                           Possible keys: train.epochs, train.steps, train.lr, train.schedule,\n"
    "                           train.weight_decay, train.decay_norm_and_bias,\n"
    "                           train.label_smoothing, train.ema, train.clip, data.augment\n"
    "  --stop-after=STEPS       write a checkpoint and stop after so many steps of this invocation\n"
    "                           (exit code 75)\n"
    "  --dry-run                check the data, memory, free disk space and the checkpoint or weights\n"
    "                           to start from; print the network and the plan of the run; write\n"
    "                           nothing\n"
    "  --print-config           print the resolved configuration with all defaults\n"
    "  --list-checkpoints RUN   verify the checkpoints of a run and list them\n"
    "  --help, --version\n"
    "\n"
    "On SIGUSR1, SIGTERM or SIGINT, csc-train finishes the step, writes a checkpoint and stops\n"
    "(exit code 75). On SIGUSR2, SIGXCPU and SIGHUP it does the same, unless they were ignored\n"
    "when it started.\n"
    "\n"
    "exit codes:\n"
    "   0  done\n"
    "   2  wrong usage or configuration\n"
    "  65  bad data: a dataset, checkpoint or image is damaged\n"
    "  69  a rank, node or device was lost\n"
    "  70  internal error\n"
    "  71  out of memory\n"
    "  74  input or output failed\n"
    "  75  stopped with a checkpoint: run the same command with --resume=auto\n"
    "  86  a rank made no progress for comm.timeout_s seconds\n"
    "  87  the loss is not finite: a lower train.lr with --resume=auto --change=train.lr may help\n";

struct arguments {
    const char *config, *list;
    char **overrides;
    int overrides_count;
    bool print_config;
    struct train_options train;
};

/* *done: the options were carried out and nothing else is to be done. */
static enum status parse_arguments(int argc, char **argv, struct arguments *a, bool *done)
{
    enum status status = STATUS_OK;
    int first;
    const struct option_row rows[] = {
        { "resume", .text = &a->train.resume },
        { "change", .text = &a->train.change },
        { "stop-after", .integer64 = &a->train.stop_after, .low = 1, .high = 0x1p63 },
        { "dry-run", .on = &a->train.dry_run },
        { "print-config", .on = &a->print_config },
        { "list-checkpoints", .text = &a->list },
        { .name = NULL },
    };
    TRY(options_check(argv));
    TRY(options_parse(rows, NULL, argc, argv, "csc-train", usage, &first, done));
    if (*done)
        return STATUS_OK;
    if (a->list) {
        *done = true;
        return checkpoint_list(a->list);
    }
    if (a->train.change && !a->train.resume && !a->print_config)
        FAIL(STATUS_USAGE, "--change needs --resume: a new run takes any configuration");
    if (a->train.change)
        TRY(config_check_change(a->train.change));
    if (first == argc)
        FAIL(STATUS_USAGE, "a configuration is needed, such as configs/quickstart.yaml; see csc-train --help");
    a->config = argv[first];
    a->overrides = argv + first + 1;
    a->overrides_count = argc - first - 1;
fail:
    return status;
}

/* Rank 0 reads the file and the overrides. The others parse what it prints, so an error is reported once. */
static enum status load_config(struct config *config, struct comm *comm, const struct arguments *a)
{
    enum status status = STATUS_OK, mine = STATUS_OK;
    char *text = NULL;
    int64_t bytes = 0;
    if (comm->rank == 0) {
        mine = config_load(config, a->config, a->overrides, a->overrides_count);
        if (mine == STATUS_OK)
            mine = config_print(config, &text);
        bytes = mine == STATUS_OK ? (int64_t)strlen(text) : 0;
    }
    TRY(comm_agree(comm, mine));
    if (comm->size == 1)
        goto fail;
    TRY(comm->ops->broadcast(comm, &bytes, sizeof bytes, 0));
    if (comm->rank != 0)
        text = malloc((size_t)bytes + 1);
    if (!text)
        FAIL(STATUS_NOMEM, "out of memory for the configuration");
    TRY(comm->ops->broadcast(comm, text, (size_t)bytes, 0));
    if (comm->rank != 0)
        mine = config_parse(config, a->config, text, (size_t)bytes, NULL, 0);
    TRY(comm_agree(comm, mine));
fail:
    free(text);
    return status;
}

/* Defaults that depend on the dataset are printed as `auto` if it cannot be opened. */
static enum status print_config(struct config *config, struct comm *comm)
{
    enum status status = STATUS_OK;
    struct dataset *dataset = NULL;
    char *text = NULL;
    if (comm->rank != 0)
        return STATUS_OK;
    if (dataset_open(&dataset, config->data.train) != STATUS_OK)
        status_clear();
    TRY(config_resolve_on_rank(config, comm, dataset));
    TRY(config_print(config, &text));
    fputs(text, stdout);
fail:
    dataset_close(dataset);
    free(text);
    return status;
}

int main(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct arguments arguments = { 0 };
    struct config config = { 0 };
    struct comm *comm = NULL;
    struct watchdog *watchdog = NULL;
    bool done = false, agreed = true;
    stop_keep_ignored();
    affinity_limit_spinning(argv);
    log_init("csc-train", 0, 1);
    TRY(comm_create(&comm));
    log_init("csc-train", comm->rank, comm->size);
    if (comm->rank != 0 && !freopen("/dev/null", "w", stdout))
        status_clear();
    TRY(comm_agree(comm, parse_arguments(argc, argv, &arguments, &done)));
    if (done || arguments.print_config || arguments.train.dry_run)
        log_stdout_is_results();
    if (done)
        goto fail;
    TRY(stop_install());
    TRY(load_config(&config, comm, &arguments));
    if (arguments.print_config)
        TRY(comm_agree(comm, print_config(&config, comm)));
    if (arguments.print_config)
        goto fail;
    TRY(watchdog_start(&watchdog, comm, &(struct watchdog_options){ .timeout_s = config.comm.timeout_s }));
    arguments.train.watchdog = watchdog;
    TRY(train(&config, comm, &arguments.train, &agreed));
fail:
    config_finish(&config);
    if (status != STATUS_OK && status != STATUS_STOPPED && agreed &&
        comm_should_report(comm)) /* otherwise train() has reported it */
        log_failure();
    if (!agreed && status != STATUS_OK && comm->size > 1)
        comm->ops->abort(comm, status); /* the other ranks wait for this one in a step */
    if (status == STATUS_OK && (status = log_finish(status)) != STATUS_OK)
        log_failure();
    watchdog_stop(watchdog);
    comm_destroy(comm);
    return status;
}
