/* state.c - a run's state to and from checkpoints, and from rank 0 to all.
 * optimizer.safetensors holds momentum.NAME, ema.NAME, power.LAYER (H,W,C) and eta.LAYER. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "trainer/checkpoint.h"
#include "trainer/setup.h"
#include "trainer/training.h"

/* ---- lists of named host copies ---- */

/* Filled again for every checkpoint, in the same order: from the second one on nothing is allocated. */
struct tensors {
    struct safetensor *list;
    int count, room;
    int filled; /* this time */
};

/* A copy of all that a checkpoint holds, which the writer reads while training goes on. */
struct snapshot {
    struct tensors model, optimizer;
    struct checkpoint_state state;
    char *config;
};

static void free_tensors(struct tensors *t)
{
    for (int i = 0; i < t->count; i++) {
        free((void *)t->list[i].name);
        free((void *)t->list[i].data);
    }
    free(t->list);
    *t = (struct tensors){ 0 };
}

/* A new F32 tensor "PREFIXNAME"; *data is its memory, to be filled. */
static enum status add_tensor(struct tensors *t, const char *prefix, const char *name, int dims, const int *shape,
                              float **data)
{
    enum status status = STATUS_OK;
    if (t->filled < t->count) {
        *data = (float *)t->list[t->filled++].data;
        return STATUS_OK;
    }
    if (t->count == t->room) {
        int room = t->room ? 2 * t->room : 64;
        struct safetensor *list = realloc(t->list, room * sizeof *list);
        if (!list)
            FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
        t->list = list;
        t->room = room;
    }
    struct safetensor tensor = { .dtype = SAFETENSORS_F32, .dims = dims };
    for (int i = 0; i < dims; i++)
        tensor.shape[i] = shape[i];
    char *full = NULL;
    if (asprintf(&full, "%s%s", prefix, name) < 0)
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    *data = malloc(safetensors_size(&tensor));
    if (!*data) {
        free(full);
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    }
    tensor.name = full;
    tensor.data = *data;
    t->list[t->count++] = tensor;
    t->filled = t->count;
fail:
    return status;
}

/* All parameters of a flat buffer and, if given, running statistics. */
static enum status add_flat(struct tensors *t, const struct model *m, const char *prefix, const float *flat,
                            const float *running)
{
    enum status status = STATUS_OK;
    float *data;
    for (int i = 0; i < m->params_count; i++) {
        const struct param *p = &m->params[i];
        TRY(add_tensor(t, prefix, p->name, p->dims, p->shape, &data));
        TRY(model_get(m, flat, i, data));
    }
    for (int i = 0; running && i < model_running_tensors(m); i++) {
        char name[80];
        size_t offset;
        int channels;
        model_running_tensor(m, i, name, &offset, &channels);
        TRY(add_tensor(t, prefix, name, 1, &channels, &data));
        m->device->ops->copy_out(m->device, data, running + offset, channels * sizeof *data);
    }
fail:
    return status;
}

static enum status add_power(struct tensors *t, const struct model *m)
{
    enum status status = STATUS_OK;
    float *data;
    for (int i = 0; m->power && i < m->csc_count; i++) {
        const struct csc_power *power = m->power[i];
        const int shape[] = { power->shape.h, power->shape.w, power->shape.c };
        TRY(add_tensor(t, "power.", model_csc_name(m, i), 3, shape, &data));
        m->device->ops->copy_out(m->device, data, power->vector, conv_in_count(&power->shape) * sizeof *data);
        TRY(add_tensor(t, "eta.", model_csc_name(m, i), 0, NULL, &data));
        *data = m->eta[i];
    }
fail:
    return status;
}

/* ---- choices by measurement ---- */

/* {"key": "value", ...}; NULL if out of memory. */
static json_t *tuned_object(const struct tuned *tuned)
{
    json_t *object = json_object();
    for (int i = 0; object && i < tuned_count(tuned); i++) {
        const char *key, *value;
        tuned_at(tuned, i, &key, &value);
        if (json_object_set_new(object, key, json_string(value)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

enum status training_recall_tuned(struct training *t)
{
    enum status status = STATUS_OK;
    const char *key;
    json_t *value, *object = json_object_get(t->resumed->state.extra, "tuned");
    json_object_foreach(object, key, value) {
        status = tuned_set(t->tuned, key, json_is_string(value) ? json_string_value(value) : "");
        if (status == STATUS_DATA)
            FAIL(STATUS_DATA, "%s/state.json: extra.tuned: %s", t->resumed->path, status_message());
        TRY(status);
    }
fail:
    return status;
}

enum status training_share_tuned(struct training *t)
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
                             "other implementations were chosen here than on rank 0: are the machines of one kind?");
    TRY(training_agree(t, mine));
fail:
    return status;
}

/* ---- save ---- */

static void forget_texts(struct snapshot *s)
{
    json_decref(s->state.extra);
    s->state.extra = NULL;
    free(s->config);
    s->config = NULL;
}

static enum status copy_state(struct training *t, struct snapshot *s)
{
    enum status status = STATUS_OK;
    forget_texts(s);
    s->state = (struct checkpoint_state){
        .step = t->step, .epoch = t->step / t->steps_per_epoch, .epoch_step = t->step % t->steps_per_epoch,
        .seed = t->config->run.seed, .ranks = t->comm->size,
        .seconds = t->trained_before_s + training_clock() - t->started_s,
        .top1 = t->eval_step == t->step ? t->top1 : NAN, .best_top1 = t->best_top1, .best_step = t->best_step,
    };
    snprintf(s->state.train, sizeof s->state.train, "%s", dataset_fingerprint(t->train_set));
    if (t->val_set)
        snprintf(s->state.val, sizeof s->state.val, "%s", dataset_fingerprint(t->val_set));
    s->state.extra = json_pack("{s:b, s:i, s:i, s:o*}", "momentum_started", !t->optimizer->first, "threads",
                               t->device->threads, "skipped_in_row", t->skipped_in_row, "tuned", tuned_object(t->tuned));
    if (!s->state.extra || !json_object_get(s->state.extra, "tuned"))
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    TRY(config_print(t->config, &s->config));
fail:
    return status;
}

enum status training_save(struct training *t)
{
    enum status status = STATUS_OK;
    const struct optimizer *o = t->optimizer;
    if (!t->snapshot)
        t->snapshot = calloc(1, sizeof *t->snapshot);
    struct snapshot *s = t->snapshot;
    if (!s)
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    s->model.filled = s->optimizer.filled = 0;
    TRY(copy_state(t, s));
    TRY(add_flat(&s->model, t->model, "", t->model->weights, t->model->running));
    TRY(add_flat(&s->optimizer, t->model, "momentum.", o->velocity, NULL));
    if (o->ema_weights)
        TRY(add_flat(&s->optimizer, t->model, "ema.", o->ema_weights, o->ema_running));
    TRY(add_power(&s->optimizer, t->model));
    struct checkpoint_contents contents = {
        .model = s->model.list, .model_count = s->model.count, .optimizer = s->optimizer.list,
        .optimizer_count = s->optimizer.count, .state = &s->state, .config = s->config,
    };
    checkpoint_writer_start(t->writer, &contents);
fail:
    return status;
}

void training_free_snapshot(struct training *t)
{
    if (!t->snapshot)
        return;
    forget_texts(t->snapshot);
    free_tensors(&t->snapshot->model);
    free_tensors(&t->snapshot->optimizer);
    free(t->snapshot);
    t->snapshot = NULL;
}

/* ---- restore, on rank 0 ---- */

static enum status take(const struct safetensors *file, const char *path, const char *prefix, const char *name,
                        size_t count, const float **data)
{
    enum status status = STATUS_OK;
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct safetensor *t = safetensors_find(file, full);
    if (!t || t->dtype != SAFETENSORS_F32 || (size_t)safetensors_elements(t) != count)
        FAIL(STATUS_DATA, "%s/optimizer.safetensors: tensor '%s' is missing or of another shape", path, full);
    *data = t->data;
fail:
    return status;
}

static enum status restore_flat(struct model *m, const struct safetensors *file, const char *path, const char *prefix,
                                float *flat, float *running)
{
    enum status status = STATUS_OK;
    const float *data;
    for (int i = 0; i < m->params_count; i++) {
        TRY(take(file, path, prefix, m->params[i].name, m->params[i].count, &data));
        TRY(model_set(m, flat, i, data));
    }
    for (int i = 0; running && i < model_running_tensors(m); i++) {
        char name[80];
        size_t offset;
        int channels;
        model_running_tensor(m, i, name, &offset, &channels);
        TRY(take(file, path, prefix, name, channels, &data));
        m->device->ops->copy_in(m->device, running + offset, data, channels * sizeof *data);
    }
fail:
    return status;
}

static enum status restore_power(struct model *m, const struct safetensors *file, const char *path)
{
    enum status status = STATUS_OK;
    const float *data;
    for (int i = 0; m->power && i < m->csc_count; i++) {
        struct csc_power *power = m->power[i];
        size_t count = conv_in_count(&power->shape);
        TRY(take(file, path, "power.", model_csc_name(m, i), count, &data));
        m->device->ops->copy_in(m->device, power->vector, data, count * sizeof *data);
        TRY(take(file, path, "eta.", model_csc_name(m, i), 1, &data));
        power->eta = m->eta[i] = *data;
    }
fail:
    return status;
}

static enum status check_config(struct training *t, const struct checkpoint *c)
{
    enum status status = STATUS_OK;
    struct config old = { 0 };
    TRY(config_parse(&old, "config.yaml", c->config, strlen(c->config), NULL, 0));
    TRY(config_resolve(&old, &(struct config_facts){ .classes = t->config->model.classes, .ranks = 1, .cores = 1 }));
    TRY(config_compare(&old, t->config));
fail:
    config_finish(&old);
    return status;
}

enum status training_restore(struct training *t)
{
    enum status status = STATUS_OK;
    struct checkpoint *c = t->resumed;
    const char *path = c->path;
    TRY(check_config(t, c));
    if (strcmp(c->state.train, dataset_fingerprint(t->train_set)) != 0)
        FAIL(STATUS_USAGE, "%s was trained on another dataset than %s (fingerprint %s, here %s)", path,
             t->config->data.train, c->state.train, dataset_fingerprint(t->train_set));
    if (c->state.step > t->total_steps)
        FAIL(STATUS_USAGE, "%s is at step %lld, past the end of this run (%lld)", path, (long long)c->state.step,
             (long long)t->total_steps);
    TRY(setup_load_weights(t->model, c->model, path));
    TRY(restore_flat(t->model, c->optimizer, path, "momentum.", t->optimizer->velocity, NULL));
    if (t->optimizer->ema_weights)
        TRY(restore_flat(t->model, c->optimizer, path, "ema.", t->optimizer->ema_weights, t->optimizer->ema_running));
    TRY(restore_power(t->model, c->optimizer, path));
    t->optimizer->first = !json_is_true(json_object_get(c->state.extra, "momentum_started"));
    t->skipped_in_row = (int)json_integer_value(json_object_get(c->state.extra, "skipped_in_row"));
    t->step = t->checkpoint_step = c->state.step;
    t->trained_before_s = c->state.seconds;
    t->top1 = c->state.top1;
    t->best_top1 = c->state.best_top1;
    t->best_step = c->state.best_step;
    if (!isnan(t->top1))
        t->eval_step = t->step;
    json_int_t threads = json_integer_value(json_object_get(c->state.extra, "threads"));
    bool any_ranks = t->config->run.deterministic;
    if (threads != t->device->threads || (c->state.ranks != t->comm->size && !any_ranks))
        log_info("resuming with %d ranks of %d threads what %d ranks of %d wrote: the same mathematics, not the same bits",
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

enum status training_broadcast(struct training *t)
{
    enum status status = STATUS_OK;
    struct model *m = t->model;
    struct optimizer *o = t->optimizer;
    struct { int64_t step, checkpoint, eval, best; double before, top1, best_top1; int32_t first, skipped; } s = {
        t->step, t->checkpoint_step, t->eval_step, t->best_step, t->trained_before_s, t->top1, t->best_top1, o->first,
        t->skipped_in_row,
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
    model_weights_changed(m);
fail:
    return status;
}
