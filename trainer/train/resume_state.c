/* resume_state.c - restores the state of a run from a checkpoint on rank 0, and sends it from there to all ranks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "layers/model_io.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/model/load_model.h"
#include "trainer/train/training_parts.h"

/* ---- choices by measurement ---- */

enum status training_restore_tuned(struct training *t)
{
    enum status status = STATUS_OK;
    const char *key;
    json_t *value, *object = json_object_get(t->resume_checkpoint->state.extra, "tuned");
    json_object_foreach(object, key, value)
    {
        status = tuned_set(t->tuned, key, json_is_string(value) ? json_string_value(value) : "");
        if (status == STATUS_DATA)
            FAIL(STATUS_DATA, "%s/state.json: extra.tuned: %s", t->resume_checkpoint->path, status_message());
        TRY(status);
    }
fail:
    return status;
}

enum status training_broadcast_tuned(struct training *t)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    int64_t bytes = 0;
    if (t->comm->size == 1)
        return STATUS_OK;
    if (t->comm->rank == 0 && (text = tuned_print(t->tuned)))
        bytes = (int64_t)strlen(text) + 1;
    TRY(t->comm->ops->broadcast(t->comm, &bytes, sizeof bytes, 0));
    if (t->comm->rank != 0 && bytes)
        text = malloc((size_t)bytes);
    TRY(training_agree(t, text ? STATUS_OK : status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory")));
    TRY(t->comm->ops->broadcast(t->comm, text, (size_t)bytes, 0));
    if (t->comm->rank != 0)
        status = tuned_parse(t->tuned, text, (size_t)bytes - 1);
    TRY(training_agree(t, status));
fail:
    free(text);
    return status;
}

enum status training_check_tuned(struct training *t)
{
    enum status status = STATUS_OK, mine = STATUS_OK;
    char *text = tuned_print(t->tuned);
    uint64_t hash = text ? hash_bytes(text, strlen(text)) : 0, first = hash;
    free(text);
    TRY(t->comm->ops->broadcast(t->comm, &first, sizeof first, 0));
    if (hash != first)
        mine = status_report(STATUS_BUG, __FILE__, __LINE__,
                             "this rank chose other implementations than rank 0: are the machines of the same kind?");
    TRY(training_agree(t, mine));
fail:
    return status;
}

/* ---- restore, on rank 0 ---- */

static enum status check_config(struct training *t, const struct checkpoint *c)
{
    enum status status = STATUS_OK;
    struct config old = { 0 };
    char name[PATH_MAX + 16];
    snprintf(name, sizeof name, "%s/config.yaml", c->path);
    TRY(config_parse(&old, name, c->config, strlen(c->config), NULL, 0));
    TRY(config_resolve(&old, &(struct config_facts){ .classes = old.model.classes, .ranks = 1, .cores = 1 }));
    TRY(config_compare(&old, t->config, t->options.change, &t->recipe_changes));
    if (old.device.kind != t->config->device.kind)
        log_info("resuming on another kind of device: results are the same only up to rounding");
fail:
    config_finish(&old);
    return status;
}

/* Restores the accuracies so far, unless they were measured on other images, or with labels by index that differ from
 * those by name. */
static void restore_accuracy(struct training *t, const struct checkpoint *c)
{
    const char *val = t->val_set ? dataset_fingerprint(t->val_set) : c->state.val;
    bool by_number = t->val_label_map && !json_object_get(c->state.extra, "classes");
    snprintf(t->val_fingerprint, sizeof t->val_fingerprint, "%s", val);
    if (strcmp(c->state.val, val) != 0 || by_number) {
        if (!isnan(c->state.best_top1))
            log_info("%s was evaluated on %s: its best top-1, %.2f%% at step %lld, is not compared with later ones",
                     c->path, by_number ? "labels by index, not by class name" : "another validation set",
                     100 * c->state.best_top1, (long long)c->state.best_step);
        return;
    }
    t->top1 = c->state.top1;
    t->best_top1 = c->state.best_top1;
    t->best_step = c->state.best_step;
    if (!isnan(t->top1))
        t->eval_step = t->step;
}

enum status training_check_resume(struct training *t)
{
    enum status status = STATUS_OK;
    struct checkpoint *c = t->resume_checkpoint;
    const char *path = c->path;
    TRY(check_config(t, c));
    if (strcmp(c->state.train, dataset_fingerprint(t->train_set)) != 0)
        FAIL(STATUS_USAGE, "%s was trained on another dataset than %s (fingerprint %s, here %s)", path,
             t->config->data.train, c->state.train, dataset_fingerprint(t->train_set));
    if (c->state.step > t->total_steps)
        FAIL(STATUS_USAGE, "%s is at step %lld, past the end of this run (%lld)", path, (long long)c->state.step,
             (long long)t->total_steps);
fail:
    return status;
}

/* Restores the averages. If the run had none, because --change switches them on now, they start at the weights. */
static enum status restore_averages(struct training *t, struct checkpoint *c)
{
    const struct tensor_store store = { checkpoint_tensor, c };
    struct optimizer *o = t->optimizer;
    char first[80];
    snprintf(first, sizeof first, "ema.%s", t->model->params[0].name);
    if (o->ema_weights && checkpoint_find(c, first))
        return model_io_read(t->model, &store, "ema.", o->ema_weights, o->ema_running, false);
    optimizer_start_ema(o);
    return STATUS_OK;
}

/* Whether so many ranks add up in the same order as one rank, so that a deterministic run gives the same bits. */
static bool adds_up_alike(int ranks)
{
    return (ranks & (ranks - 1)) == 0;
}

enum status training_restore_state(struct training *t)
{
    enum status status = STATUS_OK;
    struct checkpoint *c = t->resume_checkpoint;
    const struct tensor_store store = { checkpoint_tensor, c };
    TRY(training_check_resume(t));
    TRY(load_model_weights(t->model, c->model, c->path));
    TRY(model_io_read(t->model, &store, "momentum.", t->optimizer->velocity, NULL, false));
    TRY(restore_averages(t, c));
    TRY(model_io_read_power(t->model, &store));
    t->optimizer->first = !json_is_true(json_object_get(c->state.extra, "momentum_started"));
    t->skipped_in_row = (int)json_integer_value(json_object_get(c->state.extra, "skipped_in_row"));
    t->step = t->checkpoint_step = c->state.step;
    t->trained_before_s = c->state.seconds;
    restore_accuracy(t, c);
    json_int_t threads = json_integer_value(json_object_get(c->state.extra, "threads"));
    bool any_ranks = t->config->run.deterministic && adds_up_alike(t->comm->size) && adds_up_alike(c->state.ranks);
    if (threads != t->device->threads || (c->state.ranks != t->comm->size && !any_ranks))
        log_info("resuming with %d ranks of %d threads a checkpoint of %d ranks of %d threads: results are the same "
                 "only up to rounding",
                 t->comm->size, t->device->threads, c->state.ranks, (int)threads);
fail:
    return status;
}

/* ---- rank 0 to all ---- */

static enum status broadcast_floats(struct training *t, float *data, size_t count)
{
    enum status status = STATUS_OK;
    float *host = malloc(count * sizeof *host);
    if (!host)
        FAIL(STATUS_NOMEM, "out of memory to send the initial state");
    t->device->ops->copy_out(t->device, host, data, count * sizeof *host);
    TRY(t->comm->ops->broadcast(t->comm, host, count * sizeof *host, 0));
    t->device->ops->copy_in(t->device, data, host, count * sizeof *host);
fail:
    free(host);
    return status;
}

enum status training_broadcast_state(struct training *t)
{
    enum status status = STATUS_OK;
    struct model *m = t->model;
    struct optimizer *o = t->optimizer;
    struct {
        int64_t step, checkpoint, eval, best;
        double before, top1, best_top1;
        int32_t first, skipped;
    } s = {
        t->step, t->checkpoint_step, t->eval_step, t->best_step,      t->trained_before_s,
        t->top1, t->best_top1,       o->first,     t->skipped_in_row,
    };
    if (t->comm->size == 1)
        return STATUS_OK;
    TRY(t->comm->ops->broadcast(t->comm, &s, sizeof s, 0));
    t->step = s.step;
    t->checkpoint_step = s.checkpoint;
    t->eval_step = s.eval;
    t->best_step = s.best;
    t->trained_before_s = s.before;
    t->top1 = s.top1;
    t->best_top1 = s.best_top1;
    o->first = s.first;
    t->skipped_in_row = s.skipped;
    TRY(broadcast_floats(t, m->weights, m->count));
    TRY(broadcast_floats(t, m->running, m->running_count));
    TRY(broadcast_floats(t, o->velocity, m->count));
    if (o->ema_weights) {
        TRY(broadcast_floats(t, o->ema_weights, m->count));
        TRY(broadcast_floats(t, o->ema_running, m->running_count));
    }
    TRY(t->comm->ops->broadcast(t->comm, m->eta, m->csc_count * sizeof *m->eta, 0));
    for (int i = 0; m->power && i < m->csc_count; i++) {
        TRY(broadcast_floats(t, m->power[i]->vector, conv_in_count(&m->power[i]->shape)));
        m->power[i]->eta = m->eta[i];
    }
    model_step_sizes_changed(m);
    model_weights_changed(m);
fail:
    return status;
}
