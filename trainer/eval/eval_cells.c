/* eval_cells.c - csc-eval's evaluations: clean and corrupted images, at each setting of lambda. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/eval/eval.h"
#include "trainer/model/load_model.h"

enum status eval_open_loader(const struct eval *e, const struct corruption *corruption, struct loader **loader)
{
    struct loader_config config = setup_loader_config(e->config, e->trained.dataset, false, e->comm);
    config.corruption = corruption;
    config.label_map = e->trained.label_map;
    return loader_create(loader, &config);
}

/* An adaptive lambda is set image by image, by its holder. */
enum status eval_set_lambda(struct eval *e, struct net *net, const struct lambda_setting *setting)
{
    enum status status = STATUS_OK;
    int n = e->config->eval.batch;
    float *same = malloc(n * sizeof *same);
    if (!same)
        FAIL(STATUS_NOMEM, "out of memory");
    for (int i = 0; i < n; i++)
        same[i] = (float)setting->value;
    for (int i = 0; i < e->model->csc_count; i++)
        TRY(net_set_lambda(net, i, setting->mode == LAMBDA_FIXED && e->layers[i] ? same : NULL));
fail:
    free(same);
    return status;
}

static enum status run_cell(struct eval *e, struct cell *cell, const struct image_source *source, int64_t images)
{
    enum status status = STATUS_OK;
    const struct lambda_setting *setting = &e->a.lambdas[cell->lambda];
    bool first = cell == e->cells;
    struct eval_statistics statistics = { 0 };
    char phase[96];
    snprintf(phase, sizeof phase, "%d/%d %s", (int)(cell - e->cells) + 1, e->cells_count,
             cell->corruption[0] ? cell->corruption : "evaluating");
    struct evaluate_options how = {
        .limit = e->a.limit,
        .total = e->a.limit > 0 && e->a.limit < images ? e->a.limit : images,
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
    TRY(evaluate_source(e->net, e->config->eval.batch, e->model, source, e->comm, &how, &cell->result));
    cell->calibration_error = eval_statistics_calibration_error(&statistics);
    if (first) {
        e->statistics = statistics;
        statistics = (struct eval_statistics){ 0 };
    }
fail:
    eval_statistics_finish(&statistics);
    return status;
}

/* All settings of lambda on one set of images, from cell *at on. */
static enum status run_settings(struct eval *e, const char *name, int index, int severity, int *at,
                                const struct corruption *corruption)
{
    enum status status = STATUS_OK;
    struct loader *loader = NULL;
    if (!e->sets)
        TRY(comm_agree(e->comm, eval_open_loader(e, corruption, &loader)));
    for (int l = 0; l < e->a.lambdas_count; l++) {
        struct cell *cell = &e->cells[(*at)++];
        struct image_source source;
        int64_t images = e->images;
        snprintf(cell->corruption, sizeof cell->corruption, "%s", name);
        cell->severity = severity;
        cell->corruption_index = index;
        cell->lambda = l;
        if (e->sets) {
            TRY(comm_agree(e->comm, corrupted_sets_start(e->sets, index, severity, &source, &images)));
        } else {
            TRY(comm_agree(e->comm, loader_seek(loader, 0, 0)));
            source = evaluate_loader(loader);
        }
        TRY(run_cell(e, cell, &source, images));
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
            sets += e->a.corruption[k][s];
    return sets;
}

enum status eval_run_cells(struct eval *e)
{
    enum status status = STATUS_OK;
    int at = 0;
    e->cells_count = count_sets(e) * e->a.lambdas_count;
    e->cells = calloc(e->cells_count, sizeof *e->cells);
    if (!e->cells)
        FAIL(STATUS_NOMEM, "out of memory for the results");
    if (!e->sets)
        TRY(run_settings(e, "", -1, 0, &at, NULL));
    for (int c = 0; e->sets && c < corrupted_sets_count(e->sets); c++)
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++)
            TRY(run_settings(e, corrupted_sets_name(e->sets, c), c, s, &at, NULL));
    for (int k = 0; k < CORRUPTIONS; k++)
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++) {
            struct corruption corruption = corruption_make(k, s, e->imagenet, e->a.seed);
            if (e->a.corruption[k][s - 1])
                TRY(run_settings(e, corruption_name(k), k, s, &at, &corruption));
        }
fail:
    return status;
}
