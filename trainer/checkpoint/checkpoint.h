/* checkpoint.h - RUN/checkpoints/step-00001234/: model.safetensors, optimizer.safetensors, state.json, config.yaml
 * and MANIFEST, which holds the size and XXH64 of each and, last, its own. A large optimizer state is written by
 * several processes at once, as optimizer-00001-of-00003.safetensors and so on. Only the holder of the run's lock
 * (trainer/train/run_directory.h) writes, retains or cleans; others add parts before it gives the name. */
#ifndef CSC_TRAINER_CHECKPOINT_CHECKPOINT_H
#define CSC_TRAINER_CHECKPOINT_CHECKPOINT_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/checkpoint/safetensors.h"

#define CHECKPOINT_LAST_STEP 99999999 /* a step has eight digits */
enum { CHECKPOINT_PARTS = 16 };       /* of the optimizer state, at most */

/* state.json */
struct checkpoint_state {
    int64_t step;       /* optimizer steps done */
    int64_t epoch;      /* the epoch that the next step belongs to */
    int64_t epoch_step; /* and its place there, from 0: where the loader goes on */
    uint64_t seed;
    int ranks;               /* that wrote it */
    double seconds;          /* trained so far, over all invocations */
    double top1;             /* of an evaluation at this very step, NAN if there was none */
    double best_top1;        /* of the run so far, NAN if none */
    int64_t best_step;       /* 0 if none */
    char train[17], val[17]; /* dataset fingerprints, "" if none */
    json_t *extra;           /* an object of the caller's own (tuned choices), or NULL; owned when read */
};

struct checkpoint_digest {
    uint64_t hash, bytes; /* XXH64 of a file, and its length */
};

struct checkpoint_contents {
    const struct safetensor *model;
    int model_count;
    const struct safetensor *optimizer; /* momentum, EMA, power-iteration vectors and eta */
    int optimizer_count;
    const struct checkpoint_state *state;
    const char *config; /* YAML, as config_print gives it */
    uint64_t token;     /* part of the hidden name: one for each start of a run, so that an earlier one's processes that
                         * are slow to die write elsewhere */
    int parts;          /* 0: the optimizer state is above. Else others write it, see checkpoint_write_part: */
    enum status (*await_parts)(void *context,
                               struct checkpoint_digest *digests); /* until no one writes any more; (parts) */
    void *context;
};

/* Part `index` of `parts` of the optimizer state. */
struct checkpoint_part {
    int64_t step;
    uint64_t token; /* as the contents have them */
    int index, parts;
    const struct safetensor *tensors;
    int count;
};

/* Writes a part, fsynced, into the hidden folder in which the checkpoint grows, beside or before checkpoint_write,
 * which may run in another process. STATUS_IO. */
enum status checkpoint_write_part(const char *run, const struct checkpoint_part *part,
                                  struct checkpoint_digest *digest);

/* Writes step-%08lld of contents->state->step and gives its path: under a name starting .tmp-, every file fsynced,
 * renamed, parent fsynced. A directory of that step which exists already is replaced. On failure (STATUS_IO: disk full)
 * nothing of it is left and older checkpoints are as they were. */
enum status checkpoint_write(const char *run, const struct checkpoint_contents *contents, char path[PATH_MAX]);

/* Sizes and hashes of every file, and the manifest's own. STATUS_DATA says what is damaged, STATUS_IO what is missing.
 */
enum status checkpoint_verify(const char *checkpoint);

/* An open checkpoint. */
struct checkpoint {
    char path[PATH_MAX];
    struct safetensors *model, *optimizer[CHECKPOINT_PARTS];
    int parts;
    struct checkpoint_state state;
    char *config;
};

/* Verifies, then reads. */
enum status checkpoint_open(struct checkpoint **checkpoint, const char *path);
void checkpoint_close(struct checkpoint *checkpoint); /* NULL is fine */

/* A tensor of the optimizer state, in whichever part; NULL if absent. */
const struct safetensor *checkpoint_find(const struct checkpoint *checkpoint, const char *name);

/* The values of the tensor PREFIX + NAME of the optimizer state, which must be F32 and of this shape (dims numbers, or
 * none for a scalar). They belong to the checkpoint. STATUS_DATA names the tensor and both shapes. */
enum status checkpoint_tensor(const struct checkpoint *checkpoint, const char *prefix, const char *name, int dims,
                              const int *shape, const float **data);

/* The newest checkpoint of a run that verifies and has finite weights; path "" if the run has none. A warning says why
 * a newer one was passed over; STATUS_DATA if there are some but none is valid. */
enum status checkpoint_find_newest(const char *run, char path[PATH_MAX]);

/* What a start with this --resume does: path "" is a fresh start. resume NULL: refused (STATUS_USAGE) if the run holds
 * checkpoints; "auto": checkpoint_find_newest; else that directory or STATUS_IO. Rank 0 calls this. */
enum status checkpoint_resume_path(const char *run, const char *resume, char path[PATH_MAX]);

/* After a resume from `step` has succeeded: whole checkpoints of later steps, which a --resume=PATH has left behind,
 * are renamed abandoned-step-%08lld, with a line saying so, or else --resume=auto would go back to them and retention
 * prefer them. */
enum status checkpoint_abandon_later(const char *run, int64_t step);

/* For csc-eval and csc-viz: `path` itself if it is a checkpoint, else the best (or, without evaluations, the newest)
 * valid one of the run. */
enum status checkpoint_find_best(const char *path, char found[PATH_MAX]);

/* Deletes all but the newest `keep`, the best and the newest that verifies, oldest first. */
enum status checkpoint_retain(const char *run, int keep);

/* Removes what dead writers left under .tmp- names. */
enum status checkpoint_clean(const char *run);

/* Prints step, date, bytes and whether it verifies for each, best marked with *. STATUS_DATA if any is damaged. */
enum status checkpoint_list(const char *run);

#endif
