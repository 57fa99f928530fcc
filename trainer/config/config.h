/* config.h - the configuration of a run: strict YAML, overrides on the command line, defaults, and what a resume may
 * change. Members of struct config have the names of the keys: train.schedule.kind is config.train.schedule.kind. One
 * table, config_table.c, drives parsing, ranges, defaults, suggestions, printing and comparison.
 * Call config_load or config_parse first, config_resolve once the dataset and the ranks are known, and config_finish at
 * the end. Errors are STATUS_USAGE, and their messages begin with file:line:column or the override that caused them. */
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

/* Where a value was written. Without line and override it is the default. */
struct config_origin {
    int line, column; /* from 1 */
    char *override;   /* the argument, such as "train.lr=0.2"; owned */
};

/* Texts belong to the configuration. NULL means `none` or, before config_resolve, that the default is not known yet. */
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
        int classes; /* 0: as many as the dataset has */
        enum config_stem stem;
        int width;
        bool shortcut;
        char **layers; /* names of the CSC-layers; NULL: as arch has them. An empty list is not NULL */
        int layers_count;
        char *init_from; /* a .safetensors file, or NULL */
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
        int augment;       /* an enum augment, or -1: by the stem */
        enum shuffle shuffle;
        int64_t window;         /* samples */
        int image_size;         /* pixels; 0: as the dataset's, or 224 */
        int workers;            /* threads per rank; 0: by the number of cores */
        int prefetch;           /* micro-batches loaded ahead */
        double mean[3], std[3]; /* of values in 0..1; mean[0] < 0 or std[0] < 0: by the stem */
        enum config_policy bad_sample;
        bool scaled_jpeg; /* training decodes JPEGs at a fraction of their size where the crop allows it; inexact */
        char *cache;      /* a directory, or NULL */
        double cache_gb;
    } data;
    struct {
        int64_t epochs, steps; /* exactly one is above 0; an override of one replaces the other of the file */
        int batch;             /* samples of a step, over all ranks */
        int micro_batch;       /* 0: the whole batch, on one rank */
        enum config_optimizer optimizer;
        double lr, momentum;
        bool nesterov;
        double weight_decay;
        bool decay_norm_and_bias, zero_gamma;
        double label_smoothing, ema, clip; /* ema and clip: 0 is off */
        struct {
            enum config_schedule kind;
            double warmup_epochs; /* below 0: none, or with onecycle 30% of the run */
            double *milestones;   /* epochs, ascending; NULL if none */
            int milestones_count;
            double gamma, final_lr;
        } schedule;
        enum config_policy on_nonfinite;
    } train;
    struct {
        int every_epochs; /* 0: only at the end of the run */
        int batch;        /* 0: as train.micro_batch */
    } eval;
    struct {
        enum config_device kind;
        enum config_precision precision;
        int threads; /* per rank; 0: by the number of cores */
    } device;
    struct {
        double bucket_mb; /* 0: auto */
        enum comm_dtype grad_dtype;
        double timeout_s;
    } comm;
    struct {
        int64_t every_steps;
        int every_epochs;
        double every_minutes; /* of all three, 0 is off */
        int keep;
    } checkpoint;
    struct {
        bool tensorboard;
        int pictures_every_epochs;
    } log;

    char *file; /* the file's name, for messages */
    struct config_origin origin[CONFIG_KEYS];
};

/* Finds a configuration: path as given, then in $CSC_CONFIG_DIR, then among the installed configurations. */
enum status config_find(const char *path, char found[PATH_MAX]);

/* Reads the file that config_find finds, applies overrides such as "train.lr=0.2" or "model.layers=[a, b]", and checks
 * what needs neither dataset nor ranks. If the file is the config.yaml of a run, run.dir becomes the folder in which it
 * lies. After a failure *config needs no config_finish. */
enum status config_load(struct config *config, const char *path, char *const *overrides, int count);

/* The same for text in memory. Messages and the default of run.name use `name`. */
enum status config_parse(struct config *config, const char *name, const char *text, size_t bytes,
                         char *const *overrides, int count);

/* What config_resolve replaces `auto` by. 0 means unknown: values that need it stay auto. */
struct config_facts {
    int classes;    /* of the training set */
    int image_size; /* side of its images if all are squares of one size; otherwise 0 */
    int ranks;
    int cores; /* cores that this rank has to itself */
    bool cuda; /* device.kind auto becomes cuda */
};

/* Fills in the defaults that depend on the facts, and checks what depends on them: classes, and micro-batches shared by
 * the ranks. */
enum status config_resolve(struct config *config, const struct config_facts *facts);

/* Prints the configuration as YAML with every key. It parses to the same values. The caller frees *text. Fails only
 * with STATUS_NOMEM. */
enum status config_print(const struct config *config, char **text);

/* Whether a text begins like one of config_print's. */
bool config_is_printed(const char *text);

/* The value of a key such as "model.arch" as text, which may be "auto" or "none". The caller frees it. NULL if out of
 * memory. */
char *config_text(const struct config *config, const char *key);

/* Checks whether a run saved with `old` may be resumed with `now`; both must be resolved. Ranks, devices, workers,
 * threads, paths, logging, evaluation and checkpointing may differ. Keys of the recipe, such as train.lr, may differ if
 * `change` lists them, separated by commas (NULL: none). Other keys that change the mathematics, or with
 * run.deterministic the bits, are refused: the message names such a key and both values. *changed becomes
 * "KEY BEFORE -> AFTER, ..." for the recipe, or NULL if nothing differs; the caller frees it. A line of the log tells
 * of listed keys that do not differ. */
enum status config_compare(const struct config *old, const struct config *now, const char *change, char **changed);

/* Checks that every key of such a list may change at a resume. A section stands for its keys. STATUS_USAGE. */
enum status config_check_change(const char *change);

void config_finish(struct config *config); /* a struct of zeros is fine */

#endif
