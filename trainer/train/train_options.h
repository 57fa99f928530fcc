/* train_options.h - what the command line of csc-train asks of a run. */
#ifndef CSC_TRAINER_TRAIN_TRAIN_OPTIONS_H
#define CSC_TRAINER_TRAIN_TRAIN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/watchdog/watchdog.h"

struct train_options {
    const char *resume;        /* --resume: NULL for a new run, "auto", or the path of a checkpoint */
    const char *change;        /* --change: keys, separated by commas, that a resume may change; or NULL */
    int64_t stop_after;        /* optimizer steps of this invocation; 0: no limit */
    bool dry_run;              /* check and report, but write nothing */
    struct watchdog *watchdog; /* receives this rank's progress; or NULL */
};

#endif
