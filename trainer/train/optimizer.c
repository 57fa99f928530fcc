/* optimizer.c - updates all parameters and projects the atoms, in one pass over rows of the flat buffer. */
#include "trainer/train/optimizer.h"

#include <math.h>
#include <stdlib.h>

#define LARS_TRUST 1e-3         /* the trust coefficient of You et al. 2017 */
enum { MAX_ROW_FLOATS = 4096 }; /* floats; for rows that are not atoms */

static bool is_weight(const struct param *p)
{
    return p->kind == PARAM_CONV || p->kind == PARAM_DICTIONARY || p->kind == PARAM_LINEAR_WEIGHT;
}

static int row_length(const struct param *p)
{
    return p->kind == PARAM_DICTIONARY ? (int)(p->count / p->shape[0]) : MAX_ROW_FLOATS;
}

static size_t row_count(const struct param *p)
{
    return (p->count + row_length(p) - 1) / row_length(p);
}

static size_t count_rows(const struct model *model)
{
    size_t count = 0;
    for (int i = 0; i < model->params_count; i++)
        count += row_count(&model->params[i]);
    return count;
}

static void assign_memory(struct optimizer *o)
{
    size_t bytes = o->model->count * sizeof(float);
    o->velocity = arena_take(&o->arena, bytes);
    o->rows = arena_take(&o->arena, count_rows(o->model) * sizeof *o->rows);
    if (o->config.ema > 0) {
        o->ema_weights = arena_take(&o->arena, bytes);
        o->ema_running = arena_take(&o->arena, o->model->running_count * sizeof(float));
    }
}

size_t optimizer_bytes(const struct model *model, const struct optimizer_config *config)
{
    struct optimizer o = { .model = (struct model *)model, .config = *config };
    assign_memory(&o);
    return o.arena.used;
}

static enum status make_rows(struct optimizer *o)
{
    enum status status = STATUS_OK;
    const struct model *m = o->model;
    struct sgd_row *rows = calloc(count_rows(m), sizeof *rows);
    int count = 0;
    o->row_ends = calloc((unsigned)m->params_count, sizeof *o->row_ends);
    if (!rows || !o->row_ends)
        FAIL(STATUS_NOMEM, "out of memory for the optimizer");
    for (int i = 0; i < m->params_count; i++) {
        const struct param *p = &m->params[i];
        size_t length = row_length(p);
        for (size_t at = 0; at < p->count; at += length)
            rows[count++] = (struct sgd_row){
                .offset = p->offset + at,
                .length = (int)(p->count - at < length ? p->count - at : length),
                .atom = p->kind == PARAM_DICTIONARY,
                .decays = is_weight(p) || o->config.decay_norm_and_bias,
            };
        o->row_ends[i] = count;
    }
    m->device->ops->copy_in(m->device, o->rows, rows, count * sizeof *rows);
fail:
    free(rows);
    return status;
}

enum status optimizer_create(struct optimizer **out, struct model *model, const struct optimizer_config *config)
{
    enum status status = STATUS_OK;
    struct optimizer *o = calloc(1, sizeof *o);
    if (!o)
        FAIL(STATUS_NOMEM, "out of memory for the optimizer");
    *o = (struct optimizer){ .model = model, .config = *config, .first = true };
    assign_memory(o);
    TRY(model->device->ops->arena_allocate(model->device, &o->arena));
    assign_memory(o);
    TRY(make_rows(o));
    *out = o;
    o = NULL;
fail:
    optimizer_destroy(o);
    return status;
}

void optimizer_destroy(struct optimizer *o)
{
    if (!o)
        return;
    o->model->device->ops->arena_finish(o->model->device, &o->arena);
    free(o->row_ends);
    free(o);
}

void optimizer_start_ema(struct optimizer *o)
{
    struct device *device = o->model->device;
    if (!o->ema_weights)
        return;
    device->ops->axpby_f32(device, 1, o->model->weights, 0, o->model->weights, o->ema_weights, o->model->count);
    device->ops->axpby_f32(device, 1, o->model->running, 0, o->model->running, o->ema_running, o->model->running_count);
}

/* LARS: scales the gradient and the weight decay by the trust ratio of the tensor. */
static void step_tensor(struct optimizer *o, int index, const float *grads, struct sgd sgd)
{
    struct device *device = o->model->device;
    const struct param *p = &o->model->params[index];
    int first = index > 0 ? o->row_ends[index - 1] : 0;
    if (is_weight(p)) {
        const float *w = o->model->weights + p->offset, *g = grads + p->offset;
        double weight = sqrt(device->ops->dot_f32(device, w, w, p->count));
        double gradient = sgd.scale * sqrt(device->ops->dot_f32(device, g, g, p->count));
        double whole = gradient + sgd.weight_decay * weight;
        float trust = weight > 0 && whole > 0 ? (float)(LARS_TRUST * weight / whole) : 1;
        sgd.scale *= trust;
        sgd.weight_decay *= trust;
    }
    device->ops->sgd(device, &sgd, o->model->weights, grads, o->velocity, o->rows + first, o->row_ends[index] - first);
}

static void average(struct optimizer *o)
{
    struct device *device = o->model->device;
    float keep = o->config.ema;
    if (!o->ema_weights)
        return;
    device->ops->axpby_f32(device, keep, o->ema_weights, 1 - keep, o->model->weights, o->ema_weights, o->model->count);
    device->ops->axpby_f32(device, keep, o->ema_running, 1 - keep, o->model->running, o->ema_running,
                           o->model->running_count);
}

void optimizer_step(struct optimizer *o, const float *grads, float scale, float lr)
{
    struct device *device = o->model->device;
    int params = o->model->params_count;
    struct sgd sgd = { .lr = lr,
                       .momentum = o->config.momentum,
                       .weight_decay = o->config.weight_decay,
                       .scale = scale,
                       .nesterov = o->config.nesterov,
                       .first = o->first };
    if (o->config.lars)
        for (int i = 0; i < params; i++)
            step_tensor(o, i, grads, sgd);
    else
        device->ops->sgd(device, &sgd, o->model->weights, grads, o->velocity, o->rows, o->row_ends[params - 1]);
    o->first = false;
    model_weights_changed(o->model);
    average(o);
}
