/* checkpoint.h - checkpoints of a run. Each is a folder RUN/checkpoints/step-00001234/ with model.safetensors,
 * optimizer.safetensors, state.json, config.yaml and MANIFEST. MANIFEST holds the size and XXH64 of every file and, in
 * its last line, its own hash. An older csc-train could divide the optimizer state into parts,
 * optimizer-00001-of-00003.safetensors and so on, which are still read. Only the process that holds the run's lock
 * (trainer/train/run_directory.h) writes, deletes and renames checkpoints. */
#ifndef CSC_TRAINER_CHECKPOINT_CHECKPOINT_H
#define CSC_TRAINER_CHECKPOINT_CHECKPOINT_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/checkpoint/safetensors.h"

#define CHECKPOINT_LAST_STEP 99999999 /* names have eight digits */
enum { CHECKPOINT_PARTS = 16 };       /* the largest number of parts of an older optimizer state */

/* The contents of state.json. */
struct checkpoint_state {
    int64_t step;       /* optimizer steps done */
    int64_t epoch;      /* the epoch of the next step, from 0 */
    int64_t epoch_step; /* the index of the next step within its epoch, from 0 */
    uint64_t seed;
    int ranks;               /* number of ranks of the run that wrote it */
    double seconds;          /* training time so far, over all invocations */
    double top1;             /* of an evaluation at this very step; NAN if there was none */
    double best_top1;        /* of the run so far; NAN if none */
    int64_t best_step;       /* 0 if none */
    char train[17], val[17]; /* fingerprints of the datasets; "" if none */
    json_t *extra;           /* an object that the caller chooses, or NULL. After reading, the state owns it */
};

/* What checkpoint_write writes. Everything belongs to the caller. */
struct checkpoint_contents {
    const struct safetensor *model;
    int model_count;
    const struct safetensor *optimizer; /* momentum, averages, power-iteration vectors and step sizes */
    int optimizer_count;
    const struct checkpoint_state *state;
    const char *config; /* YAML from config_print */
};

/* Writes the checkpoint of contents->state->step and gives its path. It is written under a hidden name that starts with
 * .tmp-, every file is fsynced, then it is renamed, and the parent folder is fsynced. It replaces a checkpoint of the
 * same step. After a failure, such as STATUS_IO on a full disk, nothing of it is left and older checkpoints are
 * unchanged. */
enum status checkpoint_write(const char *run, const struct checkpoint_contents *contents, char path[PATH_MAX]);

/* Checks the sizes and hashes of all files, and the manifest's own hash. STATUS_DATA says what is damaged, STATUS_IO
 * what is missing. */
enum status checkpoint_verify(const char *checkpoint);

/* An open checkpoint, all of it in memory. */
struct checkpoint {
    char path[PATH_MAX];
    struct safetensors *model, *optimizer[CHECKPOINT_PARTS];
    int parts;
    struct checkpoint_state state;
    char *config;
};

/* Verifies a checkpoint and reads it. */
enum status checkpoint_open(struct checkpoint **checkpoint, const char *path);
void checkpoint_close(struct checkpoint *checkpoint); /* NULL is fine */

/* A tensor of the optimizer state, from whichever part holds it; NULL if absent. */
const struct safetensor *checkpoint_find(const struct checkpoint *checkpoint, const char *name);

/* Finds a tensor of the optimizer state with safetensors_require. The values belong to the checkpoint. The first
 * parameter is a struct checkpoint, so that a struct tensor_store (layers/model_io.h) can call it. */
enum status checkpoint_tensor(void *checkpoint, const char *name, int dims, const int *shape, float **data);

/* Finds the newest checkpoint of a run that verifies and has finite weights. The path is "" if the run has none. Warns
 * of newer ones that are passed over. STATUS_DATA if there are checkpoints but none is good. */
enum status checkpoint_find_newest(const char *run, char path[PATH_MAX]);

/* Decides what --resume means for a run; a path of "" means to start afresh. resume is NULL: STATUS_USAGE if the run
 * already has checkpoints. "auto": the newest, see checkpoint_find_newest. Otherwise: the path of a checkpoint,
 * STATUS_IO if it is not a good one. For rank 0. */
enum status checkpoint_resume_path(const char *run, const char *resume, char path[PATH_MAX]);

/* Renames good checkpoints of later steps than `step` to abandoned-step-%08lld, with a line in the log. Call it after a
 * resume with --resume=PATH has succeeded: otherwise the next --resume=auto would use one of them. */
enum status checkpoint_abandon_later(const char *run, int64_t step);

/* For csc-eval and csc-viz: `path` itself if it is a checkpoint. If it is a run, its best good checkpoint or, if none
 * was evaluated, the newest good one. */
enum status checkpoint_find_best(const char *path, char found[PATH_MAX]);

/* Deletes checkpoints, oldest first. The newest `keep` stay, and the best, and the newest that verifies. */
enum status checkpoint_retain(const char *run, int keep);

/* Removes hidden folders that were never finished. */
enum status checkpoint_clean(const char *run);

/* Prints step, date, bytes, accuracy and condition of every checkpoint; the best is marked with *. STATUS_DATA if any
 * is damaged. */
enum status checkpoint_list(const char *run);

#endif
