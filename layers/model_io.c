/* model_io.c - goes through the tensors of a model by name. */
#include "layers/model_io.h"

#include <stdio.h>
#include <string.h>

/* A tensor of the model: parameter `index`, or the running statistic that follows the parameters. */
struct model_tensor {
    char name[80];
    int dims;
    const int *shape;
    int channels;  /* of a running statistic; then it is the shape */
    size_t offset; /* in the running statistics */
    bool running;
};

static int tensors_count(const struct model *m, bool running)
{
    return m->params_count + (running ? model_running_tensors(m) : 0);
}

static void get_tensor(const struct model *m, int index, struct model_tensor *t)
{
    t->running = index >= m->params_count;
    if (t->running) {
        model_running_tensor(m, index - m->params_count, t->name, &t->offset, &t->channels);
        t->dims = 1;
        t->shape = &t->channels;
    } else {
        snprintf(t->name, sizeof t->name, "%s", m->params[index].name);
        t->dims = m->params[index].dims;
        t->shape = m->params[index].shape;
    }
}

static enum status find(const struct tensor_store *store, const char *prefix, const char *name, int dims,
                        const int *shape, float **data)
{
    char full[160];
    *data = NULL;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return store->find(store->context, full, dims, shape, data);
}

enum status model_io_write(const struct model *m, const struct tensor_store *store, const char *prefix,
                           const float *flat, const float *running)
{
    enum status status = STATUS_OK;
    struct model_tensor t;
    float *data;
    for (int i = 0; i < tensors_count(m, running != NULL); i++) {
        get_tensor(m, i, &t);
        TRY(find(store, prefix, t.name, t.dims, t.shape, &data));
        if (t.running)
            m->device->ops->copy_out(m->device, data, running + t.offset, t.channels * sizeof *data);
        else
            TRY(model_get(m, flat, i, data));
    }
fail:
    return status;
}

enum status model_io_read(struct model *m, const struct tensor_store *store, const char *prefix, float *flat,
                          float *running, bool check)
{
    enum status status = STATUS_OK;
    struct model_tensor t;
    float *data;
    for (int i = 0; i < tensors_count(m, check || running); i++) {
        get_tensor(m, i, &t);
        TRY(find(store, prefix, t.name, t.dims, t.shape, &data));
        if (check)
            continue;
        if (t.running)
            m->device->ops->copy_in(m->device, running + t.offset, data, t.channels * sizeof *data);
        else
            TRY(model_set(m, flat, i, data));
    }
fail:
    return status;
}

enum status model_io_write_power(struct model *m, const struct tensor_store *store)
{
    enum status status = STATUS_OK;
    float *data;
    for (int i = 0; m->power && i < m->csc_count; i++) {
        const struct csc_power *power = m->power[i];
        const int shape[] = { power->shape.h, power->shape.w, power->shape.c };
        TRY(find(store, "power.", model_csc_name(m, i), 3, shape, &data));
        m->device->ops->copy_out(m->device, data, power->vector, conv_in_count(&power->shape) * sizeof *data);
        TRY(find(store, "eta.", model_csc_name(m, i), 0, NULL, &data));
        model_fetch_step_sizes(m);
        *data = m->eta[i];
    }
fail:
    return status;
}

enum status model_io_read_power(struct model *m, const struct tensor_store *store)
{
    enum status status = STATUS_OK;
    float *data;
    for (int i = 0; m->power && i < m->csc_count; i++) {
        struct csc_power *power = m->power[i];
        const int shape[] = { power->shape.h, power->shape.w, power->shape.c };
        TRY(find(store, "power.", model_csc_name(m, i), 3, shape, &data));
        m->device->ops->copy_in(m->device, power->vector, data, conv_in_count(&power->shape) * sizeof *data);
        TRY(find(store, "eta.", model_csc_name(m, i), 0, NULL, &data));
        power->eta = m->eta[i] = *data;
    }
    model_step_sizes_changed(m);
fail:
    return status;
}

bool model_io_has(const struct model *m, const char *name)
{
    struct model_tensor t;
    for (int i = 0; i < tensors_count(m, true); i++) {
        get_tensor(m, i, &t);
        if (strcmp(t.name, name) == 0)
            return true;
    }
    return false;
}
