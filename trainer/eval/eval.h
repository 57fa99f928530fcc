/* eval.h - what the parts of the program csc-eval share. It runs cells: one evaluation each, of clean or corrupted
 * images at one setting of lambda. */
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
    double value; /* LAMBDA_FIXED; of LAMBDA_TRAINED the configuration's */
};

enum { MAX_ATTACKS = 16 };

struct eval_options {
    const char *checkpoint, *data, *json, *logits, *layers;
    struct trained_machine machine;
    char batch[64]; /* as an override of the configuration; "" if not given */
    int64_t limit;  /* 0: all */
    uint64_t seed;
    bool fit, no_checks;
    struct lambda_setting *lambdas; /* at least one; owned */
    int lambdas_count;
    bool corruption[CORRUPTIONS][CORRUPT_SEVERITIES];
    bool corrupted; /* any of them */
    enum corrupted_sets_kind sets;
    struct attack attacks[MAX_ATTACKS];
    int attacks_count;
};

/* *done: help or version was printed. Defaults are filled in. */
enum status eval_parse_options(int argc, char **argv, struct eval_options *arguments, bool *done);

struct eval_result {
    char corruption[64];  /* "" if clean */
    int severity;         /* 1..5, or 0 */
    int corruption_index; /* of enum corruption_kind or the suite; -1 if clean */
    int lambda;           /* index of the setting */
    struct evaluation evaluation;
    double calibration_error;
};

/* An attack's outcome at one setting of lambda. */
struct attack_outcome {
    struct attack attack;
    int lambda;
    struct attack_result result;
};

struct eval {
    struct comm *comm;
    struct eval_options options;
    struct trained trained;      /* its dataset is NULL for a suite */
    const struct config *config; /* of it */
    struct model *model;         /* of it */
    struct corrupted_sets *sets; /* NULL unless asked for */
    struct net *net;
    struct adaptive *adaptive; /* NULL unless asked for */
    struct lambda_rule rule;
    bool *layers;   /* (csc_count): whose lambda is changed */
    bool imagenet;  /* which constants */
    int64_t images; /* per cell */
    float *logits;  /* (images, K) and (images) if asked for */
    int64_t *labels;
    struct csc_diagnostics *diagnostics;
    struct eval_statistics statistics; /* of the first cell */
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
