/* training_parts.h - struct training, which holds everything of a run, and the phases that work on it. It is for the
 * files of this folder and for csc-bench scale. The functions stand under the name of the file that defines them. Those
 * marked "collective" are called by all ranks together. */
#ifndef CSC_TRAINER_TRAIN_TRAINING_PARTS_H
#define CSC_TRAINER_TRAIN_TRAINING_PARTS_H

#include "base/tuned.h"
#include "comm/buckets.h"
#include "comm/nccl.h"
#include "data/read/loader.h"
#include "layers/net.h"
#include "trainer/checkpoint/checkpoint_writer.h"
#include "trainer/eval/evaluate.h"
#include "trainer/report/metrics.h"
#include "trainer/report/progress.h"
#include "trainer/train/optimizer.h"
#include "trainer/train/run_directory.h"
#include "trainer/train/schedule.h"
#include "trainer/train/train_options.h"

enum { TREE_LEVELS = 32 }; /* more often than this no int can be halved */

/* The reduce buffer starts with these floats, each a sum over the ranks: the loss, and two flags that are set if the
 * sum is above 0: some rank is asked to stop, a checkpoint is due. */
enum { REDUCE_LOSS = 0, REDUCE_STOP = 1, REDUCE_CHECKPOINT = 2, REDUCE_HEAD = 3 };

/* Sums over the steps between two lines of the log. */
struct interval {
    double loss;
    int64_t steps;
    int64_t updates;          /* steps whose gradient was used; the others were skipped (train.on_nonfinite) */
    double start_s;           /* clock_seconds() at its start, moved on by the time of evaluations and checkpoints */
    double exposed_s;         /* time spent waiting for other ranks' gradients */
    struct loader_stats data; /* the loader's counters at its start */
};

enum { REPORTED_IDS = 8 };

/* What is kept of a micro-batch of the current step, for the message if its loss is not finite. */
struct used_batch {
    int count;                  /* samples */
    uint64_t ids[REPORTED_IDS]; /* of the first samples */
};

struct training {
    struct config *config;
    struct comm *comm;
    struct train_options options;
    bool *agreed; /* train()'s: all ranks know of the failure */

    struct dataset *train_set, *val_set;
    int32_t *val_label_map; /* for each class of val_set the network's index of it; NULL if they are the same */
    struct device *device;
    struct model *model;
    struct net *net, *eval_net; /* the same net if the batch sizes are */
    struct optimizer *optimizer;
    struct loader *loader, *val_loader;
    struct buckets *buckets;
    struct comm *device_comm; /* sums over several GPUs, for the buckets; otherwise NULL */
    struct schedule schedule;

    struct reduce_layout reduce_layout;
    struct arena arena;       /* device memory of reduce_buffer, tree, losses and eval_weights */
    void *nccl_reduce_buffer; /* with several GPUs: memory that NCCL allocated for reduce_buffer */
    float *reduce_buffer;     /* device, (reduce_layout.count): what the ranks sum */
    float *tree[TREE_LEVELS]; /* device, likewise: one buffer per level of the tree of a deterministic run's sums */
    float *losses;            /* device, (local_micro_batches) */
    float *eval_weights;      /* device: copy of the averaged weights with unit atoms; NULL without train.ema */

    struct tuned *tuned;                  /* choices made by measurement, the same on all ranks */
    char *recipe_changes;                 /* rank 0: what a resume has changed of the recipe, as text; or NULL */
    struct checkpoint *resume_checkpoint; /* rank 0, until the first step: where the run resumes from; or NULL */
    struct run_directory *run_directory;  /* rank 0 */
    struct checkpoint_writer *writer;     /* rank 0 */
    struct snapshot *snapshot;            /* rank 0, from the first checkpoint on: the copy that the writer reads */
    struct metrics *metrics;              /* rank 0 */
    bool metrics_warned, events_warned;   /* it was said that lines or TensorBoard events cannot be written */
    struct progress *progress;            /* rank 0 */
    struct live_pictures *live_pictures;  /* rank 0, or NULL */

    int micro_batches, local_micro_batches; /* of a step, on all ranks and on this one */
    int64_t steps_per_epoch, total_steps;
    int64_t step;            /* optimizer steps done since the start of the run */
    int64_t first_step;      /* steps done before this invocation */
    int64_t checkpoint_step; /* step of the last checkpoint, -1 if none */
    int64_t eval_step;       /* step of the last evaluation, -1 if none */
    int skipped_in_row;
    double started_s;          /* clock_seconds() at the start of this invocation */
    double trained_before_s;   /* time of earlier invocations */
    double checkpoint_s;       /* clock_seconds() at the last checkpoint */
    double checkpoint_pause_s; /* how long training paused for it */
    double top1, best_top1;    /* shares; NAN if none */
    int64_t best_step;
    char val_fingerprint[17]; /* rank 0: of the images on which these accuracies were measured; "" if none */
    struct evaluation last_eval;
    struct interval interval;
    struct used_batch *used_batches;      /* (local_micro_batches), host */
    int used_count;                       /* used_batches of the current step so far */
    const struct micro_batch *prefetched; /* the next micro-batch, already on its way to the device; or NULL */
    bool should_stop, checkpoint_due;     /* as all ranks agreed in the last step */
};

/* ---- training_parts.c ---- */

/* Ends a phase in which each rank had an outcome: all ranks return the same one. A failure sets *agreed. Collective. */
enum status training_agree(struct training *t, enum status mine);

/* Turns the outcome STATUS_IO of a line of metrics or an event into STATUS_OK, so that a full disk does not end the
 * run. warned: t->metrics_warned or t->events_warned. */
enum status training_tolerate_full_disk(bool *warned, enum status written);

void training_start_interval(struct training *t);

/* ---- memory_plan.c: before anything is allocated on the device; then the allocation ---- */

enum status training_plan_data(struct training *t); /* configuration, device and data; collective */
enum status training_plan_nets(struct training *t); /* model and nets; collective */
enum status training_check_capacity(const struct training *t);
void training_print_plan(const struct training *t); /* --dry-run */
size_t training_device_bytes(const struct training *t);
size_t training_checkpoint_bytes(const struct training *t);
enum status training_allocate(struct training *t);
enum status training_create_buckets(struct training *t); /* collective */
/* Divides the reduce buffer into buckets of mb MB for `comm`: the head first, then the parameters, the last one first,
 * which is the order in which a backward pass finishes them. */
enum status training_divide_buckets(const struct training *t, struct comm *comm, double mb, struct buckets **out);

/* ---- resume.c: from the plan to the first step ---- */

enum status training_check_start(struct training *t);        /* --dry-run, rank 0: the start would find a good state */
enum status training_open_run_directory(struct training *t); /* and finds the checkpoint to resume; collective */
enum status training_start(struct training *t);              /* restores or draws the state on all ranks; collective */

/* ---- resume_state.c ---- */

/* On rank 0, from t->resume_checkpoint. */
enum status training_restore_tuned(struct training *t);
enum status training_check_resume(struct training *t); /* whether this configuration may resume it */
enum status training_restore_state(struct training *t);

enum status training_broadcast_tuned(struct training *t); /* rank 0's choices to all; collective */
enum status training_check_tuned(struct training *t);     /* whether all ranks made the same choices; collective */
enum status training_broadcast_state(struct training *t); /* rank 0's state to all; collective */

/* ---- check_replicas.c ---- */

/* Whether all ranks have the same program, libraries, configuration and data. Collective. */
enum status training_check_replicas(struct training *t);

/* ---- autotune.c ---- */

/* The size of the gradient buckets: as configured, as kept in t->tuned, or measured on `comm`. Collective. */
enum status training_autotune_bucket_mb(struct training *t, struct comm *comm, double *mb);

/* ---- step.c ---- */

enum status training_step(struct training *t); /* one optimizer step; collective */
/* Registers the loader's memory with a device that copies from it, which makes copies faster; and undoes that. */
void training_register_batches(struct training *t);
void training_unregister_batches(struct training *t);

/* ---- validate.c ---- */

/* Evaluates what a checkpoint of this step would hold. Collective. */
enum status training_evaluate(struct training *t);

/* ---- snapshot.c ---- */

/* Copies the state and starts to write it in the background. No write may be under way. After STATUS_NOMEM nothing was
 * started. For rank 0. */
enum status training_begin_checkpoint(struct training *t);
void training_free_snapshot(struct training *t);

/* ---- loop.c ---- */

void training_finish(struct training *t); /* a struct of zeros is fine */

#endif
