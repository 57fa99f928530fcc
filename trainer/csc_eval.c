/* csc_eval.c - the program csc-eval: accuracy of a checkpoint on clean, corrupted and attacked images, and
 * figures of its CSC-layers. Under mpirun the images are divided among the ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/log.h"
#include "comm/create.h"
#include "trainer/eval/eval.h"
#include "trainer/model/load_model.h"

static enum status open_trained(struct eval *e)
{
    enum status status = STATUS_OK;
    char *overrides[2] = { "csc.backward=unrolled", e->options.batch };
    TRY(trained_model_open(&e->trained, e->options.checkpoint, e->options.sets ? NULL : e->options.data, overrides,
                           e->options.batch[0] ? 2 : 1, &e->options.machine, e->comm));
    e->config = &e->trained.config;
    e->model = e->trained.model;
    e->imagenet = e->config->model.stem == CONFIG_STEM_IMAGENET;
    for (int i = 0; i < e->options.lambdas_count; i++)
        if (e->options.lambdas[i].mode == LAMBDA_TRAINED)
            e->options.lambdas[i].value = e->config->csc.lambda;
    if (e->options.sets)
        return corrupted_sets_open(&e->sets, e->options.sets, e->options.data, e->config, e->trained.classes, e->comm);
    e->images = dataset_samples(e->trained.dataset);
    if (e->options.limit > 0 && e->options.limit < e->images)
        e->images = e->options.limit;
fail:
    return status;
}

/* ---- lambda ---- */

/* --layers is "first", "all", or a list of names separated by commas. */
static enum status choose_layers(struct eval *e)
{
    enum status status = STATUS_OK;
    const char *list = e->options.layers ? e->options.layers : "first";
    int count = e->model->csc_count, found = 0, names = 1;
    e->layers = calloc((size_t)count + 1, sizeof *e->layers);
    if (!e->layers)
        FAIL(STATUS_NOMEM, "out of memory");
    for (int i = 0; i < count; i++) {
        const char *name = model_csc_name(e->model, i), *at = list;
        size_t length = strlen(name);
        e->layers[i] = strcmp(list, "all") == 0 || (strcmp(list, "first") == 0 && i == 0);
        for (; (at = strstr(at, name)); at++)
            if ((at == list || at[-1] == ',') && (!at[length] || at[length] == ',')) {
                e->layers[i] = true;
                found++;
            }
    }
    for (const char *at = list; *at; at++)
        names += *at == ',';
    if (e->options.layers && strcmp(list, "all") != 0 && strcmp(list, "first") != 0 && found != names)
        FAIL(STATUS_USAGE,
             "--layers=%s: every name must be a CSC-layer of this network, once (it has %d, the first is %s)", list,
             count, count ? model_csc_name(e->model, 0) : "none");
fail:
    return status;
}

static bool uses_lambda_mode(const struct eval *e, enum lambda_mode mode)
{
    for (int i = 0; i < e->options.lambdas_count; i++)
        if (e->options.lambdas[i].mode == mode)
            return true;
    return false;
}

static enum status prepare_lambda(struct eval *e)
{
    enum status status = STATUS_OK;
    bool adaptive = uses_lambda_mode(e, LAMBDA_ADAPTIVE);
    TRY(choose_layers(e));
    if ((adaptive || e->options.fit || uses_lambda_mode(e, LAMBDA_FIXED)) && e->model->csc_count == 0)
        FAIL(STATUS_USAGE, "%s: this network has no CSC-layer, so it has no lambda", e->trained.checkpoint->path);
    if (adaptive)
        TRY(lambda_rule_read(e->trained.checkpoint->path, &e->rule));
    else
        e->rule.line.steps = e->config->csc.steps > ADAPTIVE_STEPS ? e->config->csc.steps : ADAPTIVE_STEPS;
    e->rule.line.training_lambda = e->config->csc.lambda; /* a rule from a file was fitted with these weights */
    if (adaptive || e->options.fit)
        TRY(adaptive_create(&e->adaptive, e->model, e->config->eval.batch, &e->rule.line, e->layers, false));
fail:
    return status;
}

/* ---- all of it ---- */

static enum status prepare(struct eval *e)
{
    enum status status = STATUS_OK;
    bool quiet = e->options.json && strcmp(e->options.json, "-") == 0; /* standard output has only the JSON */
    if (quiet)
        log_info_to_stderr();
    TRY(open_trained(e));
    TRY(net_create(&e->net, e->model, e->config->eval.batch, NET_INFERENCE));
    TRY(net_allocate(e->net));
    TRY(prepare_lambda(e));
    e->diagnostics = calloc(e->model->csc_count + 1, sizeof *e->diagnostics);
    if (e->options.logits && e->comm->size > 1)
        FAIL(STATUS_USAGE, "--logits needs one process, not %d ranks", e->comm->size);
    if (e->options.logits) {
        e->logits = calloc((size_t)e->images * e->config->model.classes, sizeof *e->logits);
        e->labels = calloc((size_t)e->images, sizeof *e->labels);
    }
    if (!e->diagnostics || (e->options.logits && (!e->logits || !e->labels)))
        FAIL(STATUS_NOMEM, "out of memory for the results");
    if (e->comm->rank == 0 && !quiet)
        TRY(progress_create(&e->progress, 0, 0, 1));
fail:
    return status;
}

static void finish(struct eval *e)
{
    progress_destroy(e->progress);
    adaptive_destroy(e->adaptive);
    net_destroy(e->net);
    corrupted_sets_close(e->sets);
    trained_model_finish(&e->trained);
    eval_statistics_finish(&e->statistics);
    free(e->options.lambdas);
    free(e->layers);
    free(e->logits);
    free(e->labels);
    free(e->diagnostics);
    free(e->results);
    free(e->attack_outcomes);
    free(e->warnings);
}

int main(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct eval e = { 0 };
    bool done = false;
    affinity_limit_spinning(argv);
    log_init("csc-eval", 0, 1);
    log_stdout_is_results();
    TRY(comm_create(&e.comm));
    log_init("csc-eval", e.comm->rank, e.comm->size);
    if (e.comm->rank != 0 && !freopen("/dev/null", "w", stdout))
        status_clear();
    TRY(comm_agree(e.comm, eval_parse_options(argc, argv, &e.options, &done)));
    if (done)
        goto fail;
    TRY(comm_agree(e.comm, prepare(&e)));
    if (e.options.fit) {
        TRY(eval_fit(&e));
        goto fail;
    }
    TRY(eval_run_accuracy(&e));
    if (e.options.attacks_count)
        TRY(eval_run_attacks(&e));
    progress_destroy(e.progress);
    e.progress = NULL;
    TRY(comm_agree(e.comm, eval_report(&e)));
fail:
    status = log_finish(status);
    if (status != STATUS_OK && comm_should_report(e.comm))
        log_failure();
    finish(&e);
    comm_destroy(e.comm);
    return status;
}
