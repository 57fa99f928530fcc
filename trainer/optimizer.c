/* optimizer.c - the update of all parameters: one pass where they are treated alike, else one per tensor. */
#include "trainer/optimizer.h"

#include <math.h>
#include <stdlib.h>

#define LARS_TRUST 1e-3 /* You et al. 2017 */

static void place(struct optimizer *o)
{
    size_t bytes = o->model->count * sizeof(float);
    o->velocity = arena_take(&o->arena, bytes);
    if (o->config.ema > 0) {
        o->ema_weights = arena_take(&o->arena, bytes);
        o->ema_running = arena_take(&o->arena, o->model->running_count * sizeof(float));
    }
}

size_t optimizer_bytes(const struct model *model, const struct optimizer_config *config)
{
    struct optimizer o = { .model = (struct model *)model, .config = *config };
    place(&o);
    return o.arena.used;
}

enum status optimizer_create(struct optimizer **out, struct model *model, const struct optimizer_config *config)
{
    enum status status = STATUS_OK;
    struct optimizer *o = calloc(1, sizeof *o);
    if (!o)
        FAIL(STATUS_NOMEM, "out of memory for the optimizer");
    *o = (struct optimizer){ .model = model, .config = *config, .first = true };
    place(o);
    TRY(model->device->ops->arena_allocate(model->device, &o->arena));
    place(o);
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
    free(o);
}

void optimizer_start_ema(struct optimizer *o)
{
    struct device *device = o->model->device;
    if (!o->ema_weights)
        return;
    device->ops->lincomb(device, 1, o->model->weights, 0, o->model->weights, o->ema_weights, o->model->count);
    device->ops->lincomb(device, 1, o->model->running, 0, o->model->running, o->ema_running, o->model->running_count);
}

static bool is_weight(const struct param *p)
{
    return p->kind == PARAM_CONV || p->kind == PARAM_DICTIONARY || p->kind == PARAM_LINEAR_WEIGHT;
}

/* One tensor's step: with LARS, g and the decay are scaled by its trust ratio. */
static void step_tensor(struct optimizer *o, const struct param *p, float *grads, float lr)
{
    struct device *device = o->model->device;
    float *w = o->model->weights + p->offset, *g = grads + p->offset;
    bool full = is_weight(p) || o->config.decay_norm_and_bias;
    struct sgd sgd = { .lr = lr, .momentum = o->config.momentum, .nesterov = o->config.nesterov, .first = o->first,
                       .weight_decay = full ? o->config.weight_decay : 0 };
    if (o->config.lars && is_weight(p)) {
        double weight = sqrt(device->ops->dot(device, w, w, p->count));
        double gradient = sqrt(device->ops->dot(device, g, g, p->count));
        double whole = gradient + sgd.weight_decay * weight;
        float trust = weight > 0 && whole > 0 ? (float)(LARS_TRUST * weight / whole) : 1;
        device->ops->lincomb(device, trust, g, 0, g, g, p->count);
        sgd.weight_decay *= trust;
    }
    device->ops->sgd(device, &sgd, w, g, o->velocity + p->offset, p->count);
}

static void average(struct optimizer *o)
{
    struct device *device = o->model->device;
    float keep = o->config.ema;
    if (!o->ema_weights)
        return;
    device->ops->lincomb(device, keep, o->ema_weights, 1 - keep, o->model->weights, o->ema_weights, o->model->count);
    device->ops->lincomb(device, keep, o->ema_running, 1 - keep, o->model->running, o->ema_running,
                         o->model->running_count);
}

void optimizer_step(struct optimizer *o, float *grads, float lr)
{
    struct device *device = o->model->device;
    if (!o->config.lars && o->config.decay_norm_and_bias) {
        struct sgd sgd = { .lr = lr, .momentum = o->config.momentum, .nesterov = o->config.nesterov,
                           .first = o->first, .weight_decay = o->config.weight_decay };
        device->ops->sgd(device, &sgd, o->model->weights, grads, o->velocity, o->model->count);
    } else
        for (int i = 0; i < o->model->params_count; i++)
            step_tensor(o, &o->model->params[i], grads, lr);
    o->first = false;
    model_normalize(o->model);
    average(o);
}
