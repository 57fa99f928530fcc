/* lambda_rule.h - the file beside a checkpoint that holds its rule for an adaptive lambda, as JSON:
 * CHECKPOINT.lambda.json, so runs/NAME/checkpoints/step-00001234.lambda.json. It is bound to the weights by their hash.
 */
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
    int points;       /* levels of noise that the line was fitted to */
    struct lambda_point {
        double sigma;    /* of the noise, of values in 0..1 */
        double residual; /* root mean square of x - A z, mean over the images */
        double best;     /* lambda */
        double top1;     /* there */
    } point[LAMBDA_RULE_POINTS];
    long long images; /* per level */
    char data[17];    /* fingerprint of the dataset */
};

void lambda_rule_path(const char *checkpoint, char path[PATH_MAX]);
/* Written whole or not at all. STATUS_IO, STATUS_NOMEM. */
enum status lambda_rule_write(const char *checkpoint, const struct lambda_rule *rule);
/* STATUS_USAGE if there is none, STATUS_DATA if it is malformed or of other weights. */
enum status lambda_rule_read(const char *checkpoint, struct lambda_rule *rule);

/* The text of such a file. STATUS_DATA. */
enum status lambda_rule_parse(const char *text, size_t bytes, const char *name, struct lambda_rule *rule);
enum status lambda_rule_print(const struct lambda_rule *rule, char **text); /* the caller frees it */

/* Least squares among the lines that give images with the first point's residual, clean ones, the training lambda;
 * clamped to between it and the largest lambda tried. In: the points, and in rule->line how their residuals were
 * measured. STATUS_DATA. */
enum status lambda_rule_fit(struct lambda_rule *rule, double largest);

#endif
