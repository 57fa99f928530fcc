/* eval.h - the parts of csc-eval. The program evaluates clean and corrupted images at each setting of lambda, then
 * runs the attacks. Only csc_eval.c and eval_*.c include this header. */
#ifndef CSC_TRAINER_EVAL_EVAL_H
#define CSC_TRAINER_EVAL_EVAL_H

#include "data/corrupt/corrupt.h"
#include "trainer/eval/attack.h"
#include "trainer/eval/corrupted_sets.h"
#include "trainer/eval/evaluate.h"
#include "trainer/model/lambda_rule.h"
#include "trainer/model/trained_model.h"

enum lambda_mode { LAMBDA_TRAINED, LAMBDA_FIXED, LAMBDA_ADAPTIVE };
struct lambda_setting {
    enum lambda_mode mode;
    double value; /* of LAMBDA_FIXED; for LAMBDA_TRAINED the configured lambda */
};

enum { MAX_ATTACKS = 16 };

struct eval_options {
    const char *checkpoint, *data, *json, *logits, *layers;
    struct device_overrides machine;
    char batch[64]; /* an override of the configuration such as "eval.batch=16"; "" if not given */
    int64_t limit;  /* number of images; 0: all */
    uint64_t seed;
    bool fit, no_checks;
    struct lambda_setting *lambdas; /* at least one; owned, freed by csc_eval.c */
    int lambdas_count;
    bool corruption[CORRUPTIONS][CORRUPT_SEVERITIES];
    bool corrupted; /* true if corruption[][] has any */
    enum corrupted_sets_kind sets;
    struct attack attacks[MAX_ATTACKS];
    int attacks_count;
};

/* Reads the command line and fills in the defaults. *done is set if --help or --version was printed. STATUS_USAGE,
 * STATUS_NOMEM. */
enum status eval_parse_options(int argc, char **argv, struct eval_options *options, bool *done);

struct eval_result {
    char corruption[64];  /* name of the corruption; "" for clean images */
    int severity;         /* 1..5; 0 for clean images */
    int corruption_index; /* an enum corruption_kind, or an index into the corrupted sets; -1 for clean images */
    int lambda;           /* index into options.lambdas */
    struct evaluation evaluation;
    double calibration_error;
};

/* The result of one attack at one setting of lambda. */
struct attack_outcome {
    struct attack attack;
    int lambda;
    struct attack_result result;
};

struct eval {
    struct comm *comm;
    struct eval_options options;
    struct trained_model trained; /* its dataset is NULL with --suite */
    const struct config *config;  /* of trained */
    struct model *model;          /* of trained */
    struct corrupted_sets *sets;  /* NULL unless asked for */
    struct net *net;
    struct adaptive *adaptive; /* NULL unless asked for */
    struct lambda_rule rule;
    bool *layers;   /* (csc_count): the layers whose lambda --lambda sets */
    bool imagenet;  /* corruptions use ImageNet-C's constants, not CIFAR-10-C's */
    int64_t images; /* number of images of a result */
    float *logits;  /* (images, K) and labels (images), for --logits; or NULL */
    int64_t *labels;
    struct csc_diagnostics *diagnostics;
    struct eval_statistics statistics; /* of the first result */
    struct eval_result *results;
    int results_count;
    struct attack_outcome *attack_outcomes;
    int attack_outcomes_count;
    char (*warnings)[256]; /* of the checks for masked gradients */
    int warnings_count;
    struct progress *progress; /* rank 0 */
};

/* eval_accuracy.c */
enum status eval_open_loader(const struct eval *e, const struct corruption *corruption, struct loader **loader);
enum status eval_set_lambda(struct eval *e, struct net *net, const struct lambda_setting *setting);
enum status eval_run_accuracy(struct eval *e);
/* eval_fit.c */
enum status eval_fit(struct eval *e);
/* eval_attack.c */
enum status eval_run_attacks(struct eval *e);
/* eval_report.c */
enum status eval_report(const struct eval *e);

#endif
