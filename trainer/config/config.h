/* config.h - the configuration of a run: strict YAML, dotted overrides, defaults, and what a resume may change.
 * Members are named as the keys: train.schedule.kind is cfg.train.schedule.kind. One table (config_table.c)
 * drives parsing, ranges, defaults, suggestions, printing and comparison.
 * Life: config_load (or config_parse), config_resolve once the dataset and the ranks are known, config_finish.
 * Every error is STATUS_USAGE and begins with file:line:column or the override that caused it. */
#ifndef CSC_TRAINER_CONFIG_CONFIG_H
#define CSC_TRAINER_CONFIG_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "comm/comm.h"
#include "data/read/loader.h"

enum config_arch {
    CONFIG_ARCH_RESNET18,
    CONFIG_ARCH_RESNET34,
    CONFIG_ARCH_RESNET50,
    CONFIG_ARCH_SDNET18,
    CONFIG_ARCH_SDNET34,
    CONFIG_ARCH_SDNET50,
    CONFIG_ARCH_SDNET18_ALL,
    CONFIG_ARCH_SDNET34_ALL,
    CONFIG_ARCH_SDNET50_ALL,
};
enum config_stem { CONFIG_STEM_AUTO, CONFIG_STEM_CIFAR, CONFIG_STEM_IMAGENET };
enum config_backward { CONFIG_BACKWARD_UNROLLED, CONFIG_BACKWARD_ONE_STEP, CONFIG_BACKWARD_IMPLICIT };
enum config_policy { CONFIG_STOP, CONFIG_SKIP }; /* data.bad_sample, train.on_nonfinite */
enum config_optimizer { CONFIG_SGD, CONFIG_LARS };
enum config_schedule { CONFIG_CONSTANT, CONFIG_STEP, CONFIG_COSINE, CONFIG_ONECYCLE };
enum config_device { CONFIG_DEVICE_AUTO, CONFIG_DEVICE_CPU, CONFIG_DEVICE_CUDA };
enum config_precision { CONFIG_PRECISION_AUTO, CONFIG_FP32, CONFIG_TF32, CONFIG_BF16 };

enum { CONFIG_KEYS = 67 }; /* rows of the table */

/* Where a value came from: neither line nor override is the default. */
struct config_origin {
    int line, column; /* from 1 */
    char *override;   /* "train.lr=0.2", owned */
};

/* Text is owned by the configuration; NULL is `none` or, before config_resolve, the default. */
struct config {
    struct {
        char *name;    /* default: the file's name */
        char *dir;     /* default: runs/NAME */
        uint64_t seed; /* 0 .. 2^63-1 */
        int log_every; /* steps */
        bool deterministic;
    } run;
    struct {
        enum config_arch arch;
        int classes; /* 0: the dataset's */
        enum config_stem stem;
        int width;
        bool shortcut;
        char **layers; /* names of the CSC-layers; NULL: by arch (an empty list is not NULL) */
        int layers_count;
        char *init_from; /* .safetensors or NULL */
    } model;
    struct {
        int steps;
        double lambda, mu;
        bool nonnegative;
        double step_size; /* 0: auto */
        int power_iterations;
        enum config_backward backward;
    } csc;
    struct {
        char *train, *val; /* dataset directories; val NULL: no evaluation */
        int augment;       /* enum augment; -1: by stem */
        enum shuffle shuffle;
        int64_t window;         /* samples */
        int image_size;         /* pixels; 0: the dataset's, or 224 */
        int workers;            /* threads per rank; 0: from the cores */
        int prefetch;           /* micro-batches ahead */
        double mean[3], std[3]; /* of values in 0..1; mean[0], std[0] < 0: by stem */
        enum config_policy bad_sample;
        bool scaled_jpeg; /* training decodes JPEGs at a fraction of their size where the crop allows; not exact */
        char *cache;      /* directory or NULL */
        double cache_gb;
    } data;
    struct {
        int64_t epochs, steps; /* exactly one is > 0; an override of one replaces the file's other */
        int batch;             /* samples over all ranks */
        int micro_batch;       /* 0: batch, on one rank */
        enum config_optimizer optimizer;
        double lr, momentum;
        bool nesterov;
        double weight_decay;
        bool decay_norm_and_bias, zero_gamma;
        double label_smoothing, ema, clip; /* ema, clip: 0 is off */
        struct {
            enum config_schedule kind;
            double warmup_epochs; /* < 0: 0, or for onecycle 30% of the run (trainer/train/schedule.h) */
            double *milestones;   /* epochs, ascending; NULL if none */
            int milestones_count;
            double gamma, final_lr;
        } schedule;
        enum config_policy on_nonfinite;
    } train;
    struct {
        int every_epochs; /* 0: at the end only */
        int batch;        /* 0: micro_batch */
    } eval;
    struct {
        enum config_device kind;
        enum config_precision precision;
        int threads; /* per rank; 0: from the cores */
    } device;
    struct {
        double bucket_mb; /* 0: auto */
        enum comm_dtype grad_dtype;
        double timeout_s;
    } comm;
    struct {
        int64_t every_steps;
        int every_epochs;
        double every_minutes; /* each: 0 is off */
        int keep;
    } checkpoint;
    struct {
        bool tensorboard;
        int pictures_every_epochs;
    } log;

    char *file; /* as messages name it */
    struct config_origin origin[CONFIG_KEYS];
};

/* path as given, then in $CSC_CONFIG_DIR, then among the installed configurations. */
enum status config_find(const char *path, char found[PATH_MAX]);

/* Reads the file at path (see config_find) and applies overrides ("train.lr=0.2", "model.layers=[a, b]"), then
 * checks all that needs neither dataset nor ranks. On failure *config is finished. The config.yaml of a run means the
 * folder that it lies in, not the run.dir that is written in it. */
enum status config_load(struct config *config, const char *path, char *const *overrides, int count);

/* The same from text in memory; `name` is what messages and the default of run.name go by. */
enum status config_parse(struct config *config, const char *name, const char *text, size_t bytes,
                         char *const *overrides, int count);

/* What config_resolve fills `auto` from. 0 where not known: a value that needs it stays auto. */
struct config_facts {
    int classes;    /* of the training set */
    int image_size; /* side of its images if all are squares of one size, else 0 */
    int ranks;
    int cores; /* that this rank has to itself */
    bool cuda; /* device.kind auto becomes cuda */
};

/* Fills defaults that depend on the facts and checks what depends on them: micro-batches over ranks, classes. */
enum status config_resolve(struct config *config, const struct config_facts *facts);

/* The configuration as YAML, every key included; it can be run as it is and parses to the same values. The
 * caller frees *text. Only STATUS_NOMEM. */
enum status config_print(const struct config *config, char **text);

/* Whether a text begins as config_print's do. */
bool config_is_printed(const char *text);

/* The value of one key ("model.arch") as text, "auto" and "none" included; the caller frees it. NULL if out of memory.
 */
char *config_text(const struct config *config, const char *key);

/* Whether a run saved with `old` may go on with `now` (both resolved): ranks, devices, workers, threads, paths,
 * logging, evaluation and checkpointing may change; of the recipe (train.lr and the like) the keys that `change`
 * lists, with commas, or NULL. What else changes the mathematics (with run.deterministic: also the bits) is refused,
 * naming such a key with both values. *changed becomes "KEY BEFORE -> AFTER, ..." of the recipe, NULL if nothing
 * differs; the caller frees it. A listed key that does not differ is said in a line. */
enum status config_compare(const struct config *old, const struct config *now, const char *change, char **changed);

/* That each key of such a list may change at a resume; sections stand for their keys. STATUS_USAGE. */
enum status config_check_change(const char *change);

void config_finish(struct config *config); /* zeros are fine */

#endif
