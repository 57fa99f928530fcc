/* snapshot.c - copies the state of a run, from which a thread writes a checkpoint while training continues.
 * The optimizer state consists of momentum.NAME, ema.NAME, power.LAYER (H,W,C) and eta.LAYER. It is the same on all
 * ranks, so if it is large and all ranks see the run's directory, ranks other than 0 write it in parts of whole
 * tensors:
 *
 *     rank 0    copies, writes model, state and configuration, waits  -> MANIFEST, final name, retention
 *     others    copy, write a part with fsync, hash it, are idle      -> join
 *
 * A flag in the reduce buffer of each step tells when all parts are written. In the join that follows, the ranks tell
 * rank 0 the outcome. So only main threads talk to other ranks, and if a part cannot be written, older checkpoints stay
 * as they are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/read/dataset.h"
#include "trainer/checkpoint/checkpoint_internal.h"
#include "trainer/model/classes.h"
#include "trainer/train/training_parts.h"

size_t checkpoint_part_bytes = 64 << 20;

/* ---- tensors on the host ---- */

/* Named copies. Every checkpoint fills the list in the same order, so only the first one allocates memory. */
struct tensors {
    struct safetensor *list;
    int count;
    size_t capacity;
    int filled;   /* tensors that the current checkpoint has filled */
    int from, to; /* range of the tensors that this rank copies; the others have no data */
};

/* A copy of everything that this rank writes. The writer reads it while training continues. */
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

/* The next F32 tensor, called PREFIX + NAME. *data is its memory, to be filled; NULL if this rank does not copy it. */
static enum status next_tensor(struct tensors *t, const char *prefix, const char *name, int dims, const int *shape,
                               float **data)
{
    enum status status = STATUS_OK;
    if (t->filled == t->count)
        TRY(append_tensor(t, prefix, name, dims, shape));
    struct safetensor *tensor = &t->list[t->filled];
    bool wanted = t->filled >= t->from && t->filled < t->to;
    if (wanted && !tensor->data && !(tensor->data = malloc(safetensors_size(tensor))))
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    *data = wanted ? (float *)tensor->data : NULL;
    t->filled++;
fail:
    return status;
}

/* Copies all parameters of a flat buffer and, if not NULL, running statistics. */
static enum status copy_flat(struct tensors *t, const struct model *m, const char *prefix, const float *flat,
                             const float *running)
{
    enum status status = STATUS_OK;
    float *data;
    for (int i = 0; i < m->params_count; i++) {
        const struct param *p = &m->params[i];
        TRY(next_tensor(t, prefix, p->name, p->dims, p->shape, &data));
        if (data)
            TRY(model_get(m, flat, i, data));
    }
    for (int i = 0; running && i < model_running_tensors(m); i++) {
        char name[80];
        size_t offset;
        int channels;
        model_running_tensor(m, i, name, &offset, &channels);
        TRY(next_tensor(t, prefix, name, 1, &channels, &data));
        if (data)
            m->device->ops->copy_out(m->device, data, running + offset, channels * sizeof *data);
    }
fail:
    return status;
}

static enum status copy_power(struct tensors *t, struct model *m)
{
    enum status status = STATUS_OK;
    float *data;
    for (int i = 0; m->power && i < m->csc_count; i++) {
        const struct csc_power *power = m->power[i];
        const int shape[] = { power->shape.h, power->shape.w, power->shape.c };
        TRY(next_tensor(t, "power.", model_csc_name(m, i), 3, shape, &data));
        if (data)
            m->device->ops->copy_out(m->device, data, power->vector, conv_in_count(&power->shape) * sizeof *data);
        TRY(next_tensor(t, "eta.", model_csc_name(m, i), 0, NULL, &data));
        if (data) {
            model_fetch_step_sizes(m);
            *data = m->eta[i];
        }
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

static enum status copy_whole(struct training *t, struct snapshot *s)
{
    enum status status = STATUS_OK;
    s->model.filled = 0;
    s->model.to = INT_MAX;
    TRY(copy_state(t, s));
    TRY(copy_flat(&s->model, t->model, "", t->model->weights, t->model->running));
fail:
    return status;
}

/* ---- who writes what ---- */

/* The rank that writes a part. Parts are spread evenly over all ranks but 0, and so over the hosts. */
static int writer_of(const struct training *t, int part)
{
    return 1 + (int)((int64_t)part * (t->comm->size - 1) / t->parts);
}

/* Shares a number of this start of the run with all ranks. *seen: whether all ranks see the lock that rank 0 holds, and
 * so the run's directory. */
static enum status share_start_token(struct training *t, bool *seen)
{
    enum status status = STATUS_OK;
    struct {
        uint64_t lock, token;
    } own = { 0 }, first;
    struct timespec now;
    char path[PATH_MAX];
    uint64_t bytes;
    int64_t blind;
    TRY(checkpoint_join(path, t->config->run.dir, "lock"));
    if (hash_file(path, &own.lock, &bytes) != STATUS_OK)
        status_clear();
    clock_gettime(CLOCK_REALTIME, &now);
    own.token = hash_bytes(&now, sizeof now) ^ own.lock;
    first = own;
    TRY(t->comm->ops->broadcast(t->comm, &first, sizeof first, 0));
    blind = !own.lock || own.lock != first.lock;
    TRY(t->comm->ops->all_reduce_max_i64(t->comm, &blind, 1));
    t->start_token = first.token;
    *seen = !blind;
fail:
    return status;
}

/* The index of the first tensor of part `part`, if the tensors are divided into `parts` of about equal size. */
static int first_tensor(const struct tensors *list, size_t bytes, int part, int parts)
{
    size_t at = 0;
    int i = 0;
    for (; i < list->count && at < bytes / parts * part; i++)
        at += safetensors_size(&list->list[i]);
    return part == parts ? list->count : i;
}

static enum status describe_optimizer(struct training *t, size_t *bytes)
{
    enum status status = STATUS_OK;
    t->snapshot = calloc(1, sizeof *t->snapshot);
    if (!t->snapshot)
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    struct tensors *list = &t->snapshot->optimizer;
    TRY(copy_optimizer(t, list));
    *bytes = 0;
    for (int i = 0; i < list->count; i++)
        *bytes += safetensors_size(&list->list[i]);
fail:
    return status;
}

enum status training_plan_parts(struct training *t)
{
    enum status status = STATUS_OK;
    size_t bytes = 0;
    bool seen;
    TRY(training_agree(t, describe_optimizer(t, &bytes)));
    struct tensors *list = &t->snapshot->optimizer;
    size_t parts = bytes / checkpoint_part_bytes, max_parts = t->comm->size - 1;
    max_parts = max_parts < CHECKPOINT_PARTS ? max_parts : CHECKPOINT_PARTS;
    t->parts = (int)(parts < max_parts ? parts : max_parts);
    t->own_part = -1;
    TRY(share_start_token(t, &seen));
    if (t->parts && !seen) {
        t->parts = 0;
        if (t->comm->rank == 0)
            log_info("not all ranks see %s: rank 0 alone writes the checkpoints", t->config->run.dir);
    }
    for (int p = 0; p < t->parts; p++)
        if (writer_of(t, p) == t->comm->rank)
            t->own_part = p;
    if (t->own_part >= 0) {
        list->from = first_tensor(list, bytes, t->own_part, t->parts);
        list->to = first_tensor(list, bytes, t->own_part + 1, t->parts);
        status = checkpoint_writer_create(&t->writer, t->config->run.dir, t->config->checkpoint.keep);
    } else if (t->comm->rank == 0 && !t->parts) {
        list->to = INT_MAX;
    }
    TRY(training_agree(t, status));
fail:
    return status;
}

/* ---- a checkpoint ---- */

static enum status copy_own_state(struct training *t)
{
    enum status status = STATUS_OK;
    if (t->comm->rank == 0)
        TRY(copy_whole(t, t->snapshot));
    TRY(copy_optimizer(t, &t->snapshot->optimizer));
fail:
    return status;
}

enum status training_begin_checkpoint(struct training *t)
{
    enum status status = STATUS_OK;
    const struct snapshot *s = t->snapshot;
    const struct safetensor *optimizer = s->optimizer.list + s->optimizer.from;
    if (t->comm->rank != 0 && !t->parts)
        return STATUS_OK;
    status = copy_own_state(t);
    if (t->parts) {
        watchdog_set_waiting(t->options.watchdog, true);
        status = comm_agree(t->comm, status);
        watchdog_set_waiting(t->options.watchdog, false);
    }
    TRY(status);
    if (t->comm->rank == 0)
        checkpoint_writer_start(t->writer, &(struct checkpoint_contents){ .model = s->model.list,
                                                                          .model_count = s->model.count,
                                                                          .optimizer = optimizer,
                                                                          .optimizer_count = s->optimizer.count,
                                                                          .state = &s->state,
                                                                          .config = s->config,
                                                                          .token = t->start_token,
                                                                          .parts = t->parts });
    else if (t->own_part >= 0)
        checkpoint_writer_start_part(t->writer,
                                     &(struct checkpoint_part){ .step = t->step,
                                                                .token = t->start_token,
                                                                .index = t->own_part,
                                                                .parts = t->parts,
                                                                .tensors = optimizer,
                                                                .count = s->optimizer.to - s->optimizer.from });
    t->parts_pending = t->parts_unfinished = t->parts > 0;
fail:
    return status;
}

bool training_writes_part(const struct training *t)
{
    return t->parts_pending && t->own_part >= 0 && checkpoint_writer_busy(t->writer);
}

enum status training_join_parts(struct training *t)
{
    enum status status = STATUS_OK, mine = STATUS_OK;
    struct checkpoint_result r = { 0 };
    struct checkpoint_digest digests[CHECKPOINT_PARTS], *all = calloc((size_t)t->comm->size, sizeof *all);
    struct status_record outcome;
    if (!all)
        FAIL(STATUS_NOMEM, "out of memory for a checkpoint");
    watchdog_enter(t->options.watchdog, WATCHDOG_SAVING, t->step);
    if (t->own_part >= 0) {
        checkpoint_writer_result(t->writer, true, &r);
        mine = status_restore(&r.record);
    }
    watchdog_set_waiting(t->options.watchdog, true);
    TRY(t->comm->ops->all_gather(t->comm, &r.digest, sizeof r.digest, all));
    mine = comm_agree(t->comm, mine);
    watchdog_set_waiting(t->options.watchdog, false);
    if (mine == STATUS_LOST)
        TRY(mine);
    status_save(&outcome);
    outcome.code = mine;
    status_clear();
    for (int p = 0; p < t->parts; p++)
        digests[p] = all[writer_of(t, p)];
    if (t->comm->rank == 0)
        checkpoint_writer_set_parts(t->writer, &outcome, digests);
    t->parts_pending = false;
fail:
    free(all);
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
