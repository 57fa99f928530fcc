/* loop.h - a training run from start or resume to its end, on all ranks. */
#ifndef CSC_TRAINER_TRAIN_LOOP_H
#define CSC_TRAINER_TRAIN_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "comm/watchdog/watchdog.h"
#include "trainer/config/config.h"

struct train_options {
    const char *resume;        /* NULL, "auto" or a checkpoint */
    const char *change;        /* keys with commas that a resume may change (config_compare), or NULL */
    int64_t stop_after;        /* optimizer steps of this invocation; 0: all */
    bool dry_run;              /* check and report, write nothing */
    struct watchdog *watchdog; /* told where this rank is; or NULL */
};

/* Collective. config is resolved here. STATUS_STOPPED after a checkpoint on request. *agreed: a failure is known to all
 * ranks (each may simply end, and comm_should_report says which one tells of it); else only this rank knows of it, has
 * told of it already and must end the others. */
enum status train(struct config *config, struct comm *comm, const struct train_options *options, bool *agreed);

/* Opens data.train and resolves the configuration with what it holds; *dataset may be NULL: then only while present. */
struct dataset;
enum status train_resolve_config(struct config *config, struct comm *comm, struct dataset *dataset);

#endif
