/* training_parts.h - the parts of a run, shared by loop.c, step.c, validate.c, snapshot.c, resume_state.c and
 * memory_plan.c; not for others. */
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

enum { TREE_LEVELS = 32 };

/* Places in the head of the summed vector, beside the loss. */
enum { REDUCE_LOSS = 0, REDUCE_STOP = 1, REDUCE_CHECKPOINT = 2, REDUCE_PARTS = 3, REDUCE_HEAD = 4 };

/* What an interval between two log lines has added up. */
struct interval {
    double loss;
    int64_t updates, steps; /* whose gradient was used; all */
    double start_s, exposed_s;
    struct loader_stats data; /* at its start */
};

enum { REPORTED_IDS = 8 };

/* A micro-batch of the step, for the message if its loss is not finite. */
struct used_batch {
    int count;
    uint64_t ids[REPORTED_IDS];
};

struct training {
    struct config *config;
    struct comm *comm;
    struct train_options options;
    bool *agreed;

    struct dataset *train_set, *val_set;
    int32_t *val_label_map; /* the network's number of each of val_set's classes; NULL: the same */
    struct device *device;
    struct model *model;
    struct net *net, *eval_net; /* eval_net may be net */
    struct optimizer *optimizer;
    struct loader *loader, *val_loader;
    struct buckets *buckets;
    struct comm *device_comm; /* of several GPUs, for the buckets; NULL without */
    struct schedule schedule;

    struct reduce_layout reduce_layout;
    struct arena arena;       /* device: sums, tree, weights for the evaluation of averages */
    void *nccl_reduce_buffer; /* several GPUs' sums */
    float *reduce_buffer, *tree[TREE_LEVELS];
    float *losses;       /* (local_micro_batches): of the step's micro-batches */
    float *eval_weights; /* unit-atom copy of the averages; NULL without EMA */

    struct tuned *tuned;                  /* choices by measurement, the same on all ranks */
    char *recipe_changes;                 /* rank 0: what of the recipe a resume has changed, as text; or NULL */
    struct checkpoint *resume_checkpoint; /* rank 0, until the first step: what the run goes on from */
    struct run_directory *run_directory;  /* rank 0 */
    struct checkpoint_writer *writer;     /* rank 0, and who writes a part; else NULL */
    struct snapshot *snapshot;            /* what it writes from */
    uint64_t start_token;                 /* of this start, the same on all ranks */
    int parts, own_part;     /* of the optimizer state, by ranks other than 0: all (0: rank 0 writes it); own, or -1 */
    bool parts_pending;      /* of the last checkpoint: not joined yet. The same on all ranks */
    bool parts_unfinished;   /* some rank was still writing one, as all agreed in the last step */
    struct metrics *metrics; /* rank 0 */
    bool metrics_warned, events_warned;  /* a line or TensorBoard event could not be written; this was said */
    struct progress *progress;           /* rank 0 */
    struct live_pictures *live_pictures; /* rank 0, or NULL */

    int micro_batches, local_micro_batches; /* of a step: all, this rank's */
    int64_t steps_per_epoch, total_steps;
    int64_t step, first_step;           /* done; done before this invocation */
    int64_t checkpoint_step, eval_step; /* last ones, -1 if none */
    int skipped_in_row;
    double started_s, trained_before_s;
    double checkpoint_s;       /* clock of the last checkpoint */
    double checkpoint_pause_s; /* how long training stood still for it */
    double top1, best_top1;    /* NAN if none */
    int64_t best_step;
    char val_fingerprint[17]; /* of the images that these were had with, rank 0; "" if none */
    struct evaluation last_eval;
    struct interval interval;
    struct used_batch *used_batches; /* (local_micro_batches), host: of the step so far, */
    int used_count;
    const struct micro_batch *prefetched; /* the next one, on its way to the device already; or NULL */
    bool should_stop, checkpoint_due;     /* as all ranks agreed in the last step */
};

double training_clock(void); /* seconds, monotonic */

/* Joins the ranks' outcomes of a phase: all return the same, and *agreed is set. */
enum status training_agree(struct training *t, enum status mine);

/* memory_plan.c: configuration, device and data, then model and nets; nothing is allocated on the device yet. */
enum status training_plan_data(struct training *t);
enum status training_plan_nets(struct training *t);
enum status training_allocate(struct training *t);
enum status training_create_buckets(struct training *t); /* collective */
size_t training_device_bytes(const struct training *t);  /* of device memory */
size_t training_checkpoint_bytes(const struct training *t);
void training_print_plan(const struct training *t); /* --dry-run */
enum status training_check_capacity(const struct training *t);

/* resume.c */
enum status training_check_start(struct training *t); /* --dry-run: that the start would find a good state. Rank 0 */
enum status training_open_run_directory(struct training *t); /* the run's directory, and what to resume from */
enum status training_start(struct training *t);              /* the state to start from, on all ranks */

/* loop.c: the clock and sums of an interval between two log lines. */
void training_start_interval(struct training *t);
/* The outcome of a line of metrics or pictures: a full disk does not end a run. */
enum status training_tolerate_full_disk(bool *warned,
                                        enum status written); /* warned: t->metrics_warned or events_warned */

/* validate.c: an evaluation after t->step, of what a checkpoint of this step holds; collective. */
enum status training_evaluate(struct training *t);

void training_finish(struct training *t); /* zeros are fine */

/* check_replicas.c: that all ranks have the same program, libraries, configuration and data; collective. */
enum status training_check_replicas(struct training *t);

/* autotune.c: the size of the gradient buckets, configured, kept or measured on `comm`; collective. */
enum status training_autotune_bucket_mb(struct training *t, struct comm *comm, double *mb);

/* step.c: one optimizer step. */
enum status training_step(struct training *t);
/* Makes the loader's memory known to a device that copies from it, or forgets it. */
void training_register_batches(struct training *t);
void training_unregister_batches(struct training *t);

/* snapshot.c: checkpoints. A state at least this large is written by ranks other than 0, in parts no smaller; tests
 * lower it. */
extern size_t checkpoint_part_bytes;
enum status training_plan_parts(struct training *t); /* collective; the run's directory must be open */
/* Copies the state and begins to write it, with no write under way. STATUS_NOMEM: nothing has begun. Collective if
 * t->parts. */
enum status training_begin_checkpoint(struct training *t);
bool training_writes_part(const struct training *t);
/* Waits for this rank's part, tells rank 0 how it went and lets its writer finish. With t->parts_pending; collective.
 */
enum status training_join_parts(struct training *t);
void training_free_snapshot(struct training *t);

/* resume_state.c */
enum status training_restore_tuned(struct training *t);   /* from t->resume_checkpoint, rank 0 */
enum status training_broadcast_tuned(struct training *t); /* rank 0's choices to all; collective */
enum status training_check_tuned(struct training *t);     /* that all ranks hold the same; collective */
enum status
training_check_resume(struct training *t); /* whether this run may go on from t->resume_checkpoint; rank 0 */
enum status training_restore_state(struct training *t);   /* from t->resume_checkpoint, rank 0 */
enum status training_broadcast_state(struct training *t); /* the state of rank 0 to all */

#endif
