/* lambda_rule.c - reads, writes and fits the rule. The reader checks every value. */
#include "trainer/model/lambda_rule.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"

enum { VERSION = 2, MAX_STEPS = 1000, MAX_BYTES = 65536 };

void lambda_rule_path(const char *checkpoint, char path[PATH_MAX])
{
    size_t length = strlen(checkpoint);
    while (length > 1 && checkpoint[length - 1] == '/')
        length--;
    snprintf(path, PATH_MAX, "%.*s.lambda.json", (int)length, checkpoint);
}

static enum status weights_hash(const char *checkpoint, char text[17])
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    uint64_t hash, bytes;
    snprintf(path, sizeof path, "%s/model.safetensors", checkpoint);
    TRY(hash_file(path, &hash, &bytes));
    hash_text(hash, text);
fail:
    return status;
}

enum status lambda_rule_print(const struct lambda_rule *r, char **text)
{
    enum status status = STATUS_OK;
    const struct adaptive_rule *l = &r->line;
    json_t *points = json_array(), *root = NULL;
    for (int i = 0; i < r->points; i++)
        json_array_append_new(points,
                              json_pack("{s:f, s:f, s:f, s:f}", "sigma", r->point[i].sigma, "residual",
                                        r->point[i].residual, "best", r->point[i].best, "top1", r->point[i].top1));
    root = json_pack("{s:i, s:s, s:f, s:i, s:f, s:f, s:f, s:f, s:s, s:I, s:o}", "version", VERSION, "weights",
                     r->weights, "training_lambda", l->training_lambda, "steps", l->steps, "intercept", l->intercept,
                     "slope", l->slope, "low", l->low, "high", l->high, "data", r->data, "images",
                     (json_int_t)r->images, "points", points);
    *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    if (!*text)
        FAIL(STATUS_NOMEM, "out of memory for a rule for lambda");
fail:
    json_decref(root);
    return status;
}

static bool is_hash(const char *text)
{
    return strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16;
}

static bool finite_rule(const struct adaptive_rule *l)
{
    return isfinite(l->intercept) && isfinite(l->slope) && l->training_lambda >= 0 && l->low >= 0 &&
           l->high >= l->low && l->high < 1e6 && l->training_lambda < 1e6 && l->steps >= 1 && l->steps <= MAX_STEPS;
}

static bool parse_points(const json_t *points, struct lambda_rule *r)
{
    size_t count = json_array_size(points);
    if (count > LAMBDA_RULE_POINTS)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct lambda_point *p = &r->point[i];
        if (json_unpack(json_array_get(points, i), "{s:F, s:F, s:F, s:F !}", "sigma", &p->sigma, "residual",
                        &p->residual, "best", &p->best, "top1", &p->top1) != 0)
            return false;
    }
    r->points = (int)count;
    return true;
}

enum status lambda_rule_parse(const char *text, size_t bytes, const char *name, struct lambda_rule *r)
{
    enum status status = STATUS_OK;
    json_error_t error;
    const char *weights, *data;
    struct adaptive_rule *l = &r->line;
    json_t *points;
    json_int_t images;
    int version;
    *r = (struct lambda_rule){ 0 };
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        FAIL(STATUS_DATA, "%s:%d:%d: %s", name, error.line, error.column, error.text);
    if (json_unpack_ex(root, &error, 0, "{s:i, s:s, s:F, s:i, s:F, s:F, s:F, s:F, s:s, s:I, s:o !}", "version",
                       &version, "weights", &weights, "training_lambda", &l->training_lambda, "steps", &l->steps,
                       "intercept", &l->intercept, "slope", &l->slope, "low", &l->low, "high", &l->high, "data", &data,
                       "images", &images, "points", &points) != 0)
        FAIL(STATUS_DATA, "%s: %s", name, error.text);
    if (version != VERSION)
        FAIL(STATUS_DATA, "%s: version %d is unknown, this program writes %d", name, version, VERSION);
    if (!finite_rule(l) || !is_hash(weights) || (data[0] && !is_hash(data)) || images < 0 || !json_is_array(points) ||
        !parse_points(points, r))
        FAIL(STATUS_DATA, "%s: a value is out of range", name);
    memcpy(r->weights, weights, sizeof r->weights);
    memcpy(r->data, data, strlen(data) + 1);
    r->images = images;
fail:
    json_decref(root);
    return status;
}

enum status lambda_rule_write(const char *checkpoint, const struct lambda_rule *rule)
{
    enum status status = STATUS_OK;
    struct lambda_rule bound = *rule;
    char path[PATH_MAX], *text = NULL;
    lambda_rule_path(checkpoint, path);
    TRY(weights_hash(checkpoint, bound.weights));
    TRY(lambda_rule_print(&bound, &text));
    TRY(file_write(path, text, strlen(text)));
fail:
    free(text);
    return status;
}

enum status lambda_rule_read(const char *checkpoint, struct lambda_rule *rule)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], hash[17], *text = NULL;
    size_t bytes;
    lambda_rule_path(checkpoint, path);
    if (!file_exists(path))
        FAIL(STATUS_USAGE, "%s is not there: fit it first, with --fit-lambda on training images", path);
    TRY(file_read(path, MAX_BYTES, &text, &bytes));
    TRY(lambda_rule_parse(text, bytes, path, rule));
    TRY(weights_hash(checkpoint, hash));
    if (strcmp(hash, rule->weights) != 0)
        FAIL(STATUS_DATA, "%s was fitted to other weights (%s, these are %s): fit it again", path, rule->weights, hash);
fail:
    free(text);
    return status;
}

enum status lambda_rule_fit(struct lambda_rule *r, double largest)
{
    enum status status = STATUS_OK;
    struct adaptive_rule *l = &r->line;
    double clean = r->point[0].residual, xx = 0, xy = 0;
    for (int i = 1; i < r->points; i++) {
        double x = r->point[i].residual - clean;
        xx += x * x;
        xy += x * (r->point[i].best - l->training_lambda);
    }
    if (!(xx > 0))
        FAIL(STATUS_DATA, "a line for lambda needs images of at least two different residuals");
    l->slope = xy / xx;
    l->intercept = l->training_lambda - l->slope * clean;
    l->low = l->training_lambda;
    l->high = fmax(largest, l->training_lambda);
fail:
    return status;
}
