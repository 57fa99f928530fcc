/* lambda_rule.h - the file that holds the rule for an adaptive lambda, as JSON beside the checkpoint that it was fitted
 * to: runs/NAME/checkpoints/step-00001234.lambda.json. The hash of the weights binds it to them. */
#ifndef CSC_TRAINER_MODEL_LAMBDA_RULE_H
#define CSC_TRAINER_MODEL_LAMBDA_RULE_H

#include <limits.h>
#include <stddef.h>

#include "base/status.h"
#include "trainer/model/adaptive.h"

enum { LAMBDA_RULE_POINTS = 64 };

struct lambda_rule {
    struct adaptive_rule line;
    char weights[17]; /* XXH64 of model.safetensors */
    int points;       /* levels of noise to which the line was fitted */
    struct lambda_point {
        double sigma;    /* standard deviation of the noise, for values in 0..1 */
        double residual; /* R (adaptive.h), mean over the images */
        double best;     /* the lambda with the highest accuracy */
        double top1;     /* this accuracy */
    } point[LAMBDA_RULE_POINTS];
    long long images; /* per level of noise */
    char data[17];    /* fingerprint of the dataset */
};

void lambda_rule_path(const char *checkpoint, char path[PATH_MAX]);
/* Writes the whole file or nothing. STATUS_IO, STATUS_NOMEM. */
enum status lambda_rule_write(const char *checkpoint, const struct lambda_rule *rule);
/* STATUS_USAGE if there is no rule, STATUS_DATA if it is malformed or belongs to other weights. */
enum status lambda_rule_read(const char *checkpoint, struct lambda_rule *rule);

/* Reads the text of such a file, which messages call `name`. STATUS_DATA. */
enum status lambda_rule_parse(const char *text, size_t bytes, const char *name, struct lambda_rule *rule);
enum status lambda_rule_print(const struct lambda_rule *rule, char **text); /* the caller frees it */

/* Fits rule->line to rule->point by least squares, among the lines that give the training lambda to the residual of the
 * first point, which is that of clean images. The line is clamped between this lambda and `largest`, the largest that
 * was tried. rule->line must already say how the residuals were measured. STATUS_DATA. */
enum status lambda_rule_fit(struct lambda_rule *rule, double largest);

#endif
