/* eval_report.c - prints csc-eval's results as tables, and writes them as JSON and safetensors. Rank 0 only. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/eval/eval.h"
#include "trainer/report/json_output.h"

enum {
    MAX_PRINTED_CLASSES = 20,
    MAX_MATRIX_CLASSES = 100
}; /* more classes are not printed; more are a sparse matrix in the JSON */

static void lambda_text(const struct lambda_setting *setting, char text[32])
{
    if (setting->mode == LAMBDA_ADAPTIVE)
        snprintf(text, 32, "adaptive");
    else
        snprintf(text, 32, "%.4g", setting->value);
}

static json_t *lambda_json(const struct lambda_setting *setting)
{
    return setting->mode == LAMBDA_ADAPTIVE ? json_string("adaptive") : json_real(setting->value);
}

static struct confidence_interval interval_of(const struct evaluation *r)
{
    return wilson_interval(nearbyint(r->top1 * (double)r->images), (double)r->images);
}

static const char *class_name(const struct eval *e, int label)
{
    const struct dataset *dataset = e->trained.dataset;
    const char *kept = json_string_value(json_array_get(e->trained.classes, (size_t)label));
    return kept ? kept : dataset && label < dataset_classes(dataset) ? dataset_class_name(dataset, label) : "";
}

/* ---- means over corruptions ---- */

/* Mean accuracy over all corrupted sets of one setting of lambda. */
static double mean_corrupted(const struct eval *e, int lambda, int *sets)
{
    double sum = 0;
    *sets = 0;
    for (int i = 0; i < e->results_count; i++)
        if (e->results[i].corruption[0] && e->results[i].lambda == lambda) {
            sum += e->results[i].evaluation.top1;
            ++*sets;
        }
    return *sets ? sum / *sets : 0;
}

/* The mCE: the mean over the corruptions that have all five severities and a published error of AlexNet. */
static double mean_ce(const struct eval *e, int lambda, int *corruptions)
{
    double sum = 0;
    *corruptions = 0;
    for (int i = 0; i < e->results_count; i++) {
        const struct eval_result *c = &e->results[i];
        double error = 0, alexnet = corrupted_sets_alexnet_error(c->corruption);
        int severities = 0;
        if (c->severity != 1 || c->lambda != lambda || alexnet == 0)
            continue;
        for (int j = i; j < e->results_count; j++)
            if (e->results[j].corruption_index == c->corruption_index && e->results[j].lambda == lambda) {
                error += (1 - e->results[j].evaluation.top1) / CORRUPT_SEVERITIES;
                severities++;
            }
        if (severities == CORRUPT_SEVERITIES) {
            sum += error / alexnet;
            ++*corruptions;
        }
    }
    return *corruptions ? sum / *corruptions : 0;
}

/* ---- files ---- */

static enum status write_logits(const struct eval *e)
{
    int64_t images = e->results[0].evaluation.images;
    const struct safetensor tensors[] = {
        { .name = "logits",
          .dtype = SAFETENSORS_F32,
          .dims = 2,
          .shape = { images, e->config->model.classes },
          .data = e->logits },
        { .name = "labels", .dtype = SAFETENSORS_I64, .dims = 1, .shape = { images }, .data = e->labels },
    };
    return safetensors_write(e->options.logits, tensors, 2);
}

static json_t *layers_json(const struct eval *e)
{
    json_t *layers = json_array();
    for (int i = 0; i < e->model->csc_count; i++)
        json_array_append_new(layers, json_pack("{s:s, s:f, s:f, s:f, s:f}", "name", model_csc_name(e->model, i), "eta",
                                                (double)e->model->eta[i], "nonzeros", e->diagnostics[i].nonzeros,
                                                "residual", e->diagnostics[i].residual, "gap", e->diagnostics[i].gap));
    return layers;
}

static json_t *classes_json(const struct eval *e)
{
    json_t *classes = json_array();
    for (int k = 0; k < e->statistics.classes; k++) {
        int64_t images = eval_statistics_images(&e->statistics, k),
                hits = eval_statistics_confusion(&e->statistics, k, k);
        json_array_append_new(classes,
                              json_pack("{s:s, s:I, s:f}", "name", class_name(e, k), "images", (json_int_t)images,
                                        "top1", images ? (double)hits / (double)images : 0.0));
    }
    return classes;
}

/* The confusion matrix [label][predicted]; with many classes a list of [label, predicted, images]. */
static json_t *confusion_json(const struct eval *e)
{
    json_t *rows = json_array();
    int classes = e->statistics.classes;
    for (int k = 0; k < classes; k++) {
        json_t *row = classes <= MAX_MATRIX_CLASSES ? json_array() : NULL;
        for (int p = 0; p < classes; p++) {
            json_int_t images = eval_statistics_confusion(&e->statistics, k, p);
            if (row)
                json_array_append_new(row, json_integer(images));
            else if (images)
                json_array_append_new(rows, json_pack("[i, i, I]", k, p, images));
        }
        if (row)
            json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *result_json(const struct eval *e, const struct eval_result *c)
{
    struct confidence_interval i = interval_of(&c->evaluation);
    json_t *result = json_pack("{s:o, s:I, s:I, s:f, s:[f, f], s:f, s:f, s:f}", "lambda",
                               lambda_json(&e->options.lambdas[c->lambda]), "images", (json_int_t)c->evaluation.images,
                               "missing", (json_int_t)c->evaluation.missing, "top1", c->evaluation.top1,
                               "top1_interval", i.low, i.high, "top5", c->evaluation.top5, "loss", c->evaluation.loss,
                               "calibration_error", c->calibration_error);
    if (c->corruption[0]) {
        json_object_set_new(result, "corruption", json_string(c->corruption));
        json_object_set_new(result, "severity", json_integer(c->severity));
    }
    return result;
}

static json_t *means_json(const struct eval *e)
{
    json_t *means = json_array();
    for (int l = 0; l < e->options.lambdas_count; l++) {
        int sets, corruptions;
        double top1 = mean_corrupted(e, l, &sets), mce = mean_ce(e, l, &corruptions);
        json_t *mean = json_pack("{s:o, s:i, s:f}", "lambda", lambda_json(&e->options.lambdas[l]), "sets", sets, "top1",
                                 top1);
        if (e->imagenet && corruptions) {
            json_object_set_new(mean, "mce", json_real(mce));
            json_object_set_new(mean, "mce_corruptions", json_integer(corruptions));
        }
        json_array_append_new(means, mean);
    }
    return means;
}

static json_t *attacks_json(const struct eval *e)
{
    json_t *attacks = json_array();
    for (int i = 0; i < e->attack_outcomes_count; i++) {
        const struct attack_outcome *a = &e->attack_outcomes[i];
        char text[160];
        struct confidence_interval range = wilson_interval((double)a->result.robust, (double)a->result.images);
        attack_text(&a->attack, text, sizeof text);
        json_array_append_new(attacks, json_pack("{s:s, s:o, s:I, s:f, s:f, s:[f, f], s:f}", "attack", text, "lambda",
                                                 lambda_json(&e->options.lambdas[a->lambda]), "images",
                                                 (json_int_t)a->result.images, "clean_top1",
                                                 (double)a->result.clean / (double)a->result.images, "top1",
                                                 (double)a->result.robust / (double)a->result.images, "top1_interval",
                                                 range.low, range.high, "seconds", a->result.seconds));
    }
    return attacks;
}

/* Adds the device, and the parts that options have asked for. */
static void add_optional_parts(const struct eval *e, json_t *root)
{
    int sets;
    json_object_set_new(root, "device", json_string(e->trained.device->ops->name));
    json_object_set_new(root, "precision", json_string(precision_name(e->trained.device->precision)));
    mean_corrupted(e, 0, &sets);
    if (e->results_count > 1) {
        json_t *results = json_array();
        for (int i = 0; i < e->results_count; i++)
            json_array_append_new(results, result_json(e, &e->results[i]));
        json_object_set_new(root, "results", results);
    }
    if (sets)
        json_object_set_new(root, "corrupted", means_json(e));
    if (e->attack_outcomes_count) {
        json_object_set_new(root, "attacks", attacks_json(e));
        json_t *warnings = json_array();
        for (int i = 0; i < e->warnings_count; i++)
            json_array_append_new(warnings, json_string(e->warnings[i]));
        json_object_set_new(root, "warnings", warnings);
    }
}

static enum status write_json(const struct eval *e)
{
    const struct evaluation *r = &e->results[0].evaluation;
    const struct checkpoint *checkpoint = e->trained.checkpoint;
    char *arch = config_text(e->config, "model.arch");
    struct confidence_interval i = interval_of(r);
    json_t *root = json_pack(
        "{s:s, s:I, s:s, s:s, s:I, s:I, s:f, s:[f, f], s:f, s:f, s:f, s:f, s:o, s:f, s:b, s:o, s:o, s:o}", "checkpoint",
        checkpoint->path, "step", (json_int_t)checkpoint->state.step, "arch", arch ? arch : "", "data", e->options.data,
        "images", (json_int_t)r->images, "missing", (json_int_t)r->missing, "top1", r->top1, "top1_interval", i.low,
        i.high, "top5", r->top5, "loss", r->loss, "calibration_error", e->results[0].calibration_error, "confidence",
        eval_statistics_mean_confidence(&e->statistics), "lambda", lambda_json(&e->options.lambdas[0]), "seconds",
        r->seconds, "averaged_weights", e->trained.averaged, "layers", layers_json(e), "classes", classes_json(e),
        "confusion", confusion_json(e));
    if (root)
        add_optional_parts(e, root);
    free(arch);
    return json_output(root, e->options.json);
}

/* ---- for people ---- */

static void print_classes(const struct eval *e)
{
    for (int k = 0; k < e->statistics.classes; k++) {
        int64_t images = eval_statistics_images(&e->statistics, k), most_confused = 0;
        int other = -1;
        for (int p = 0; p < e->statistics.classes; p++)
            if (p != k && eval_statistics_confusion(&e->statistics, k, p) > most_confused) {
                most_confused = eval_statistics_confusion(&e->statistics, k, p);
                other = p;
            }
        if (!images)
            continue;
        printf("  class %3d %-16.16s %6.2f%% of %lld", k, class_name(e, k),
               100.0 * (double)eval_statistics_confusion(&e->statistics, k, k) / (double)images, (long long)images);
        if (other >= 0)
            printf(", most often confused with %d %s (%lld)", other, class_name(e, other), (long long)most_confused);
        puts("");
    }
}

static void print_first_result(const struct eval *e)
{
    const struct evaluation *r = &e->results[0].evaluation;
    struct confidence_interval i = interval_of(r);
    char missing[64];
    printf("%s, step %lld%s\n", e->trained.checkpoint->path, (long long)e->trained.checkpoint->state.step,
           e->trained.averaged ? ", averaged weights" : "");
    evaluate_missing_text(r->missing, missing);
    printf("%lld images%s: top-1 %.2f%%, top-5 %.2f%%, loss %.4f (%.0f img/s, %s, %s)\n", (long long)r->images, missing,
           100 * r->top1, 100 * r->top5, r->loss, (double)r->images / (r->seconds > 0 ? r->seconds : 1),
           e->trained.device->ops->name, precision_name(e->trained.device->precision));
    printf("  95%% interval of top-1 %.2f%% to %.2f%%; mean confidence %.2f%%, calibration error %.2f%%\n", 100 * i.low,
           100 * i.high, 100 * eval_statistics_mean_confidence(&e->statistics), 100 * e->results[0].calibration_error);
    for (int l = 0; l < e->model->csc_count; l++)
        printf("  %-26s %5.1f%% of codes non-zero, residual %5.1f%%, duality gap %.3f\n", model_csc_name(e->model, l),
               100 * e->diagnostics[l].nonzeros, 100 * e->diagnostics[l].residual, e->diagnostics[l].gap);
    if (e->statistics.classes <= MAX_PRINTED_CLASSES)
        print_classes(e);
}

static void print_results(const struct eval *e)
{
    printf("%-18s %8s %9s  %7s  %17s  %7s\n", "corruption", "severity", "lambda", "top-1", "95% interval", "loss");
    for (int i = 0; i < e->results_count; i++) {
        const struct eval_result *c = &e->results[i];
        struct confidence_interval range = interval_of(&c->evaluation);
        char lambda[32];
        lambda_text(&e->options.lambdas[c->lambda], lambda);
        printf("%-18s %8d %9s  %6.2f%%  %6.2f%% .. %6.2f%%  %7.4f\n", c->corruption[0] ? c->corruption : "none",
               c->severity, lambda, 100 * c->evaluation.top1, 100 * range.low, 100 * range.high, c->evaluation.loss);
    }
    for (int l = 0; l < e->options.lambdas_count; l++) {
        int sets, corruptions;
        double top1 = mean_corrupted(e, l, &sets), mce = mean_ce(e, l, &corruptions);
        char lambda[32];
        lambda_text(&e->options.lambdas[l], lambda);
        if (!sets)
            continue;
        printf("lambda %s: mean top-1 over %d corrupted sets %.2f%%", lambda, sets, 100 * top1);
        if (e->imagenet && corruptions)
            printf(", mCE %.2f%% over %d of ImageNet-C's 15 corruptions", 100 * mce, corruptions);
        puts("");
    }
}

static void print_attacks(const struct eval *e)
{
    for (int i = 0; i < e->attack_outcomes_count; i++) {
        const struct attack_outcome *a = &e->attack_outcomes[i];
        struct confidence_interval range = wilson_interval((double)a->result.robust, (double)a->result.images);
        char lambda[32], text[160];
        lambda_text(&e->options.lambdas[a->lambda], lambda);
        attack_text(&a->attack, text, sizeof text);
        printf("%s, lambda %s: top-1 %.2f%% (clean %.2f%%) of %lld images, 95%% interval %.2f%% to %.2f%%\n", text,
               lambda, 100.0 * (double)a->result.robust / (double)a->result.images,
               100.0 * (double)a->result.clean / (double)a->result.images, (long long)a->result.images, 100 * range.low,
               100 * range.high);
    }
}

enum status eval_report(const struct eval *e)
{
    enum status status = STATUS_OK;
    if (e->comm->rank != 0)
        return STATUS_OK;
    if (!e->options.json || strcmp(e->options.json, "-") != 0) {
        print_first_result(e);
        if (e->results_count > 1)
            print_results(e);
        print_attacks(e);
    }
    if (e->options.json)
        TRY(write_json(e));
    if (e->options.logits)
        TRY(write_logits(e));
fail:
    return status;
}
