/* eval_accuracy.c - evaluates clean and corrupted images at each setting of lambda. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/eval/eval.h"
#include "trainer/model/load_model.h"

enum status eval_open_loader(const struct eval *e, const struct corruption *corruption, struct loader **loader)
{
    struct loader_config config = config_to_loader(e->config, e->trained.dataset, false, e->comm);
    config.corruption = corruption;
    config.label_map = e->trained.label_map;
    return loader_create(loader, &config);
}

/* Sets a fixed lambda, or the network's own. An adaptive lambda is set later, for each batch, by adaptive_apply. */
enum status eval_set_lambda(struct eval *e, struct net *net, const struct lambda_setting *setting)
{
    enum status status = STATUS_OK;
    int n = e->config->eval.batch;
    float *values = malloc(n * sizeof *values);
    if (!values)
        FAIL(STATUS_NOMEM, "out of memory");
    for (int i = 0; i < n; i++)
        values[i] = (float)setting->value;
    for (int i = 0; i < e->model->csc_count; i++)
        TRY(net_set_lambda(net, i, setting->mode == LAMBDA_FIXED && e->layers[i] ? values : NULL));
fail:
    free(values);
    return status;
}

static enum status evaluate_setting(struct eval *e, struct eval_result *result, const struct image_source *source,
                                    int64_t images)
{
    enum status status = STATUS_OK;
    const struct lambda_setting *setting = &e->options.lambdas[result->lambda];
    bool first = result == e->results;
    struct eval_statistics statistics = { 0 };
    char phase[96];
    snprintf(phase, sizeof phase, "%d/%d %s", (int)(result - e->results) + 1, e->results_count,
             result->corruption[0] ? result->corruption : "evaluating");
    struct evaluate_options options = {
        .limit = e->options.limit,
        .total = e->options.limit > 0 && e->options.limit < images ? e->options.limit : images,
        .logits = first ? e->logits : NULL,
        .labels = first ? e->labels : NULL,
        .statistics = &statistics,
        .diagnostics = first ? e->diagnostics : NULL,
        .adaptive = setting->mode == LAMBDA_ADAPTIVE ? e->adaptive : NULL,
        .progress = e->progress,
        .phase = phase,
    };
    TRY(comm_agree(e->comm, eval_statistics_init(&statistics, e->config->model.classes)));
    TRY(comm_agree(e->comm, eval_set_lambda(e, e->net, setting)));
    TRY(evaluate_source(e->net, e->config->eval.batch, e->model, source, e->comm, &options, &result->evaluation));
    result->calibration_error = eval_statistics_calibration_error(&statistics);
    if (first) {
        e->statistics = statistics;
        statistics = (struct eval_statistics){ 0 };
    }
fail:
    eval_statistics_finish(&statistics);
    return status;
}

/* Evaluates one set of images at all settings of lambda, from result *at on. */
static enum status evaluate_set(struct eval *e, const char *name, int index, int severity, int *at,
                                const struct corruption *corruption)
{
    enum status status = STATUS_OK;
    struct loader *loader = NULL;
    if (!e->sets)
        TRY(comm_agree(e->comm, eval_open_loader(e, corruption, &loader)));
    for (int l = 0; l < e->options.lambdas_count; l++) {
        struct eval_result *result = &e->results[(*at)++];
        struct image_source source;
        int64_t images = e->images;
        snprintf(result->corruption, sizeof result->corruption, "%s", name);
        result->severity = severity;
        result->corruption_index = index;
        result->lambda = l;
        if (e->sets) {
            TRY(comm_agree(e->comm, corrupted_sets_start(e->sets, index, severity, &source, &images)));
        } else {
            TRY(comm_agree(e->comm, loader_seek(loader, 0, 0)));
            source = evaluate_loader(loader);
        }
        TRY(evaluate_setting(e, result, &source, images));
    }
fail:
    loader_destroy(loader);
    return status;
}

static int count_sets(const struct eval *e)
{
    int sets = e->sets ? corrupted_sets_count(e->sets) * CORRUPT_SEVERITIES : 1;
    for (int k = 0; k < CORRUPTIONS; k++)
        for (int s = 0; s < CORRUPT_SEVERITIES; s++)
            sets += e->options.corruption[k][s];
    return sets;
}

enum status eval_run_accuracy(struct eval *e)
{
    enum status status = STATUS_OK;
    int at = 0;
    e->results_count = count_sets(e) * e->options.lambdas_count;
    e->results = calloc(e->results_count, sizeof *e->results);
    if (!e->results)
        FAIL(STATUS_NOMEM, "out of memory for the results");
    if (!e->sets)
        TRY(evaluate_set(e, "", -1, 0, &at, NULL));
    for (int c = 0; e->sets && c < corrupted_sets_count(e->sets); c++)
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++)
            TRY(evaluate_set(e, corrupted_sets_name(e->sets, c), c, s, &at, NULL));
    for (int k = 0; k < CORRUPTIONS; k++)
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++) {
            struct corruption corruption = corruption_make(k, s, e->imagenet, e->options.seed);
            if (e->options.corruption[k][s - 1])
                TRY(evaluate_set(e, corruption_name(k), k, s, &at, &corruption));
        }
fail:
    return status;
}
