/* snapshot.c - copies the state of a run, from which a thread writes a checkpoint while training continues. Rank 0 does
 * both, since the state is the same on all ranks. The optimizer state consists of momentum.NAME, ema.NAME, power.LAYER
 * (H,W,C) and eta.LAYER. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/read/dataset.h"
#include "layers/model_io.h"
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

static enum status append_tensor(struct tensors *t, const char *name, int dims, const int *shape)
{
    enum status status = STATUS_OK;
    TRY(array_grow(&t->list, &t->capacity, t->count + 1, sizeof *t->list));
    struct safetensor tensor = { .name = strdup(name), .dtype = SAFETENSORS_F32, .dims = dims };
    if (!tensor.name)
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    for (int i = 0; i < dims; i++)
        tensor.shape[i] = shape[i];
    t->list[t->count++] = tensor;
fail:
    return status;
}

/* A store's `find`: the next tensor of the list. */
static enum status next_tensor(void *context, const char *name, int dims, const int *shape, float **data)
{
    struct tensors *t = context;
    enum status status = STATUS_OK;
    if (t->filled == t->count)
        TRY(append_tensor(t, name, dims, shape));
    struct safetensor *tensor = &t->list[t->filled];
    if (!tensor->data && !(tensor->data = malloc(safetensors_size(tensor))))
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    *data = (float *)tensor->data;
    t->filled++;
fail:
    return status;
}

static enum status copy_optimizer(struct training *t, struct tensors *list)
{
    enum status status = STATUS_OK;
    const struct optimizer *o = t->optimizer;
    const struct tensor_store store = { next_tensor, list };
    list->filled = 0;
    TRY(model_io_write(t->model, &store, "momentum.", o->velocity, NULL));
    if (o->ema_weights)
        TRY(model_io_write(t->model, &store, "ema.", o->ema_weights, o->ema_running));
    TRY(model_io_write_power(t->model, &store));
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
    TRY(model_io_write(t->model, &(struct tensor_store){ next_tensor, &s->model }, "", t->model->weights,
                       t->model->running));
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
