/* trained_model.c - opens a checkpoint: its configuration, class names, device, model and weights. */
#include "trainer/model/trained_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/format/index.h"
#include "layers/backend/device.h"
#include "layers/model_io.h"
#include "trainer/model/classes.h"
#include "trainer/model/load_model.h"

enum { MAX_OVERRIDES = 16 };

/* Reads the run's configuration. What depends on the machine is chosen for this one. */
static enum status read_config(struct trained_model *t, const char *path, char *const *overrides, int count,
                               const struct device_overrides *machine, const struct comm *comm)
{
    enum status status = STATUS_OK;
    char found[PATH_MAX];
    struct device_overrides used = *machine;
    char *all[MAX_OVERRIDES] = { used.threads[0] ? used.threads : "device.threads=auto",
                                 used.kind[0] ? used.kind : "device.kind=auto",
                                 used.precision[0] ? used.precision : "device.precision=fp32", "data.workers=auto" };
    int own = 4;
    if (own + count > MAX_OVERRIDES)
        FAIL(STATUS_BUG, "%d overrides", count);
    memcpy(all + own, overrides, count * sizeof *overrides);
    TRY(checkpoint_find_best(path, found));
    TRY(checkpoint_open(&t->checkpoint, found));
    TRY(config_parse(&t->config, t->checkpoint->path, t->checkpoint->config, strlen(t->checkpoint->config), all,
                     own + count));
    struct config_facts facts = { .classes = t->config.model.classes,
                                  .ranks = 1,
                                  .cores = rank_cores(comm),
                                  .cuda = config_finds_gpu(&t->config, comm->local_rank) };
    TRY(config_resolve(&t->config, &facts));
    if (t->config.device.kind != CONFIG_DEVICE_CUDA && !machine->threads[0])
        rank_pin_threads(comm, t->config.device.threads);
fail:
    return status;
}

/* Loads the averages, which the optimizer state holds as ema.NAME. */
static enum status load_averages(struct trained_model *t)
{
    enum status status = STATUS_OK;
    struct model *m = t->model;
    if (t->config.train.ema == 0)
        return STATUS_OK;
    TRY(model_io_read(m, &(struct tensor_store){ checkpoint_tensor, t->checkpoint }, "ema.", m->weights, m->running,
                      false));
    t->averaged = true;
fail:
    return status;
}

/* An older csc-train kept no class names. Then they are taken from the training data, if it is still there or is
 * `data`. */
static enum status find_classes(struct trained_model *t, const char *data)
{
    enum status status = STATUS_OK;
    struct checkpoint *c = t->checkpoint;
    const char *folders[] = { t->config.data.train, data };
    json_t *list = NULL;
    TRY(classes_read(c->state.extra, t->config.model.classes, c->path, &t->classes));
    for (int i = 0; i < 2 && !t->classes && folders[i]; i++) {
        struct index index = { 0 };
        if (index_read(&index, folders[i]) == STATUS_OK && strcmp(index.hash, c->state.train) == 0)
            list = classes_list(index.class_names, index.class_count);
        index_finish(&index);
        status_clear();
        if (list && json_object_set_new(c->state.extra, "classes", list) != 0)
            FAIL(STATUS_NOMEM, "out of memory for the names of the classes");
        TRY(classes_read(c->state.extra, t->config.model.classes, c->path, &t->classes));
    }
    if (!t->classes)
        log_warn_rank0("%s keeps no class names, and its training data is not at %s to take them from: labels are "
                       "matched by index",
                       c->path, t->config.data.train);
fail:
    return status;
}

static enum status open_dataset(struct trained_model *t, const char *data)
{
    enum status status = STATUS_OK;
    TRY(dataset_open(&t->dataset, data));
    if (t->classes)
        TRY(classes_map(t->classes, dataset_class_names(t->dataset), dataset_classes(t->dataset), data, true,
                        &t->label_map));
    TRY(config_check_dataset(&t->config, t->dataset, data));
fail:
    return status;
}

enum status trained_model_open(struct trained_model *t, const char *path, const char *data, char *const *overrides,
                               int count, const struct device_overrides *machine, const struct comm *comm)
{
    enum status status = STATUS_OK;
    *t = (struct trained_model){ 0 };
    TRY(read_config(t, path, overrides, count, machine, comm));
    TRY(config_open_device(&t->device, &t->config, comm->local_rank));
    TRY(find_classes(t, data));
    if (data)
        TRY(open_dataset(t, data));
    struct model_config config = config_to_model(&t->config);
    TRY(model_create(&t->model, t->device, &config));
    TRY(model_allocate(t->model));
    TRY(load_model_weights(t->model, t->checkpoint->model, t->checkpoint->path));
    TRY(load_averages(t));
    model_normalize(t->model);
    TRY(model_converge_step_sizes(t->model));
    return status;
fail:
    trained_model_finish(t);
    return status;
}

void trained_model_finish(struct trained_model *t)
{
    model_destroy(t->model);
    device_close(t->device);
    dataset_close(t->dataset);
    free(t->label_map);
    checkpoint_close(t->checkpoint);
    config_finish(&t->config);
    *t = (struct trained_model){ 0 };
}
