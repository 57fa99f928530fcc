/* snapshot.c - copies the state of a run, from which a thread writes a checkpoint while training continues. Rank 0 does
 * both, since the state is the same on all ranks. The optimizer state consists of momentum.NAME, ema.NAME, power.LAYER
 * (H,W,C) and eta.LAYER. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/read/dataset.h"
#include "trainer/model/classes.h"
#include "trainer/train/training_parts.h"

/* ---- tensors on the host ---- */

/* Named copies. Every checkpoint fills the list in the same order, so only the first one allocates memory. */
struct tensors {
    struct safetensor *list;
    int count;
    size_t capacity;
    int filled; /* tensors that the current checkpoint has filled */
};

/* A copy of everything that is written. The writer reads it while training continues. */
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

static enum status append_tensor(struct tensors *t, const char *prefix, const char *name, int dims, const int *shape)
{
    enum status status = STATUS_OK;
    TRY(array_grow(&t->list, &t->capacity, (size_t)t->count + 1, sizeof *t->list));
    struct safetensor tensor = { .dtype = SAFETENSORS_F32, .dims = dims };
    for (int i = 0; i < dims; i++)
        tensor.shape[i] = shape[i];
    char *full = NULL;
    if (asprintf(&full, "%s%s", prefix, name) < 0)
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    tensor.name = full;
    t->list[t->count++] = tensor;
fail:
    return status;
}

/* The next F32 tensor, called PREFIX + NAME. *data is its memory, to be filled. */
static enum status next_tensor(struct tensors *t, const char *prefix, const char *name, int dims, const int *shape,
                               float **data)
{
    enum status status = STATUS_OK;
    if (t->filled == t->count)
        TRY(append_tensor(t, prefix, name, dims, shape));
    struct safetensor *tensor = &t->list[t->filled];
    if (!tensor->data && !(tensor->data = malloc(safetensors_size(tensor))))
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    *data = (float *)tensor->data;
    t->filled++;
fail:
    return status;
}

/* Copies all parameters of a flat buffer and, if not NULL, running statistics. */
static enum status copy_flat(struct tensors *t, const struct model *m, const char *prefix, const float *flat,
                             const float *running)
{
    enum status status = STATUS_OK;
    float *data = NULL;
    for (int i = 0; i < m->params_count; i++) {
        const struct param *p = &m->params[i];
        TRY(next_tensor(t, prefix, p->name, p->dims, p->shape, &data));
        TRY(model_get(m, flat, i, data));
    }
    for (int i = 0; running && i < model_running_tensors(m); i++) {
        char name[80];
        size_t offset;
        int channels;
        model_running_tensor(m, i, name, &offset, &channels);
        TRY(next_tensor(t, prefix, name, 1, &channels, &data));
        m->device->ops->copy_out(m->device, data, running + offset, channels * sizeof *data);
    }
fail:
    return status;
}

static enum status copy_power(struct tensors *t, struct model *m)
{
    enum status status = STATUS_OK;
    float *data = NULL;
    for (int i = 0; m->power && i < m->csc_count; i++) {
        const struct csc_power *power = m->power[i];
        const int shape[] = { power->shape.h, power->shape.w, power->shape.c };
        TRY(next_tensor(t, "power.", model_csc_name(m, i), 3, shape, &data));
        m->device->ops->copy_out(m->device, data, power->vector, conv_in_count(&power->shape) * sizeof *data);
        TRY(next_tensor(t, "eta.", model_csc_name(m, i), 0, NULL, &data));
        model_fetch_step_sizes(m);
        *data = m->eta[i];
    }
fail:
    return status;
}

static enum status copy_optimizer(struct training *t, struct tensors *list)
{
    enum status status = STATUS_OK;
    const struct optimizer *o = t->optimizer;
    list->filled = 0;
    TRY(copy_flat(list, t->model, "momentum.", o->velocity, NULL));
    if (o->ema_weights)
        TRY(copy_flat(list, t->model, "ema.", o->ema_weights, o->ema_running));
    TRY(copy_power(list, t->model));
fail:
    return status;
}

/* ---- the rest of the state ---- */

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

static void free_texts(struct snapshot *s)
{
    json_decref(s->state.extra);
    s->state.extra = NULL;
    free(s->config);
    s->config = NULL;
}

static enum status copy_state(struct training *t, struct snapshot *s)
{
    enum status status = STATUS_OK;
    free_texts(s);
    s->state = (struct checkpoint_state){
        .step = t->step,
        .epoch = t->step / t->steps_per_epoch,
        .epoch_step = t->step % t->steps_per_epoch,
        .seed = t->config->run.seed,
        .ranks = t->comm->size,
        .seconds = t->trained_before_s + clock_seconds() - t->started_s,
        .top1 = t->eval_step == t->step ? t->top1 : NAN,
        .best_top1 = t->best_top1,
        .best_step = t->best_step,
    };
    snprintf(s->state.train, sizeof s->state.train, "%s", dataset_fingerprint(t->train_set));
    snprintf(s->state.val, sizeof s->state.val, "%s", t->val_fingerprint);
    s->state.extra = json_pack("{s:b, s:i, s:i, s:o*, s:o*}", "momentum_started", !t->optimizer->first, "threads",
                               t->device->threads, "skipped_in_row", t->skipped_in_row, "tuned", tuned_object(t->tuned),
                               "classes",
                               classes_list(dataset_class_names(t->train_set), dataset_classes(t->train_set)));
    if (!s->state.extra || !json_object_get(s->state.extra, "tuned") || !json_object_get(s->state.extra, "classes"))
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    TRY(config_print(t->config, &s->config));
fail:
    return status;
}

static enum status copy_all(struct training *t, struct snapshot *s)
{
    enum status status = STATUS_OK;
    s->model.filled = 0;
    TRY(copy_state(t, s));
    TRY(copy_flat(&s->model, t->model, "", t->model->weights, t->model->running));
    TRY(copy_optimizer(t, &s->optimizer));
fail:
    return status;
}

enum status training_begin_checkpoint(struct training *t)
{
    enum status status = STATUS_OK;
    if (!t->snapshot && !(t->snapshot = calloc(1, sizeof *t->snapshot)))
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    struct snapshot *s = t->snapshot;
    TRY(copy_all(t, s));
    TRY(checkpoint_writer_start(t->writer, &(struct checkpoint_contents){ .model = s->model.list,
                                                                          .model_count = s->model.count,
                                                                          .optimizer = s->optimizer.list,
                                                                          .optimizer_count = s->optimizer.count,
                                                                          .state = &s->state,
                                                                          .config = s->config }));
fail:
    return status;
}

void training_free_snapshot(struct training *t)
{
    if (!t->snapshot)
        return;
    free_texts(t->snapshot);
    free_tensors(&t->snapshot->model);
    free_tensors(&t->snapshot->optimizer);
    free(t->snapshot);
    t->snapshot = NULL;
}
