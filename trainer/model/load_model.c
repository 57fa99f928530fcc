/* load_model.c - makes the structures of the layers, the loader and the optimizer from a configuration; reads
 * weights. */
#include "trainer/model/load_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/affinity.h"
#include "base/file.h"
#include "base/log.h"
#include "layers/backend/device.h"
#include "layers/model_io.h"

int rank_cores(const struct comm *comm)
{
    return affinity_cores_per_rank(comm->local_size);
}

void rank_pin_threads(const struct comm *comm, int threads)
{
    if (comm->local_size > 1)
        affinity_pin(comm->local_rank, comm->local_size, threads);
}

enum status config_check_combinations(const struct config *c)
{
    enum status status = STATUS_OK;
    if (c->log.pictures_every_epochs > 0 && !c->log.tensorboard)
        FAIL(STATUS_USAGE,
             "log.pictures_every_epochs: pictures go into TensorBoard's event files; set log.tensorboard to true");
    if (c->data.cache && !(c->data.cache_gb > 0))
        FAIL(STATUS_USAGE, "data.cache: data.cache_gb must say how much %s may hold", c->data.cache);
fail:
    return status;
}

bool config_finds_gpu(const struct config *config, int local_rank)
{
    static bool warned;
    if (config->device.kind != CONFIG_DEVICE_AUTO || !device_has_cuda())
        return false;
    if (device_check_cuda(local_rank) == STATUS_OK)
        return true;
    if (!warned)
        log_info("device.kind is auto: using the CPU, since %s", status_message());
    warned = true;
    status_clear();
    return false;
}

enum status config_resolve_on_rank(struct config *config, const struct comm *comm, struct dataset *dataset)
{
    struct config_facts facts = { .ranks = comm->size,
                                  .cores = rank_cores(comm),
                                  .cuda = config_finds_gpu(config, comm->local_rank) };
    if (dataset) {
        facts.classes = dataset_classes(dataset);
        facts.image_size = dataset_image_size(dataset);
    }
    return config_resolve(config, &facts);
}

enum status config_open_device(struct device **device, const struct config *config, int local_rank)
{
    enum status status = STATUS_OK;
    char kind[32] = "cpu";
    static const enum precision precisions[] = {
        [CONFIG_PRECISION_AUTO] = PRECISION_FP32,
        [CONFIG_FP32] = PRECISION_FP32,
        [CONFIG_TF32] = PRECISION_TF32,
        [CONFIG_BF16] = PRECISION_BF16,
    };
    if (config->device.kind == CONFIG_DEVICE_CUDA) {
        if (device_check_cuda(local_rank) != STATUS_OK)
            FAIL(STATUS_USAGE, "device.kind: %s; use cpu", status_message());
        snprintf(kind, sizeof kind, "cuda:%d", local_rank);
    }
    TRY(device_open(device, kind, precisions[config->device.precision], config->device.threads));
fail:
    return status;
}

struct model_config config_to_model(const struct config *c)
{
    enum config_arch arch = c->model.arch;
    bool all = arch >= CONFIG_ARCH_SDNET18_ALL, sdnet = arch >= CONFIG_ARCH_SDNET18;
    static const int depths[] = { 18, 34, 50 };
    static const enum csc_backward backward[] = {
        [CONFIG_BACKWARD_UNROLLED] = CSC_UNROLLED,
        [CONFIG_BACKWARD_ONE_STEP] = CSC_ONE_STEP,
        [CONFIG_BACKWARD_IMPLICIT] = CSC_IMPLICIT,
    };
    return (struct model_config){
        .depth = depths[arch % 3],
        .sparse_stem = sdnet,
        .all = all,
        .imagenet_stem = c->model.stem == CONFIG_STEM_IMAGENET,
        .shortcut = c->model.shortcut,
        .width = c->model.width,
        .classes = c->model.classes,
        .image_size = c->data.image_size,
        .layers = c->model.layers,
        .layers_count = c->model.layers_count,
        .zero_gamma = c->train.zero_gamma,
        .step_size = (float)c->csc.step_size,
        .seed = c->run.seed,
        .csc = { .steps = c->csc.steps,
                 .lambda = (float)c->csc.lambda,
                 .mu = (float)c->csc.mu,
                 .nonnegative = c->csc.nonnegative,
                 .backward = backward[c->csc.backward] },
    };
}

struct optimizer_config config_to_optimizer(const struct config *c)
{
    return (struct optimizer_config){
        .lars = c->train.optimizer == CONFIG_LARS,
        .momentum = (float)c->train.momentum,
        .weight_decay = (float)c->train.weight_decay,
        .nesterov = c->train.nesterov,
        .decay_norm_and_bias = c->train.decay_norm_and_bias,
        .ema = (float)c->train.ema,
    };
}

struct loader_config config_to_loader(const struct config *c, struct dataset *dataset, bool training,
                                      const struct comm *comm)
{
    struct loader_config l = {
        .dataset = dataset,
        .training = training,
        .seed = c->run.seed,
        .shuffle = c->data.shuffle,
        .window = c->data.window,
        .augment = c->data.augment,
        .image_size = c->data.image_size,
        .batch = training ? c->train.batch : c->eval.batch,
        .micro_batch = training ? c->train.micro_batch : c->eval.batch,
        .rank = comm->rank,
        .ranks = comm->size,
        .workers = c->data.workers,
        .prefetch = c->data.prefetch,
        .skip_bad = c->data.bad_sample == CONFIG_SKIP,
        .scaled_jpeg = training && c->data.scaled_jpeg,
    };
    for (int i = 0; i < 3; i++) {
        l.mean[i] = c->data.mean[i];
        l.std[i] = c->data.std[i];
    }
    return l;
}

enum status config_check_dataset(const struct config *config, const struct dataset *dataset, const char *directory)
{
    enum status status = STATUS_OK;
    if (dataset_samples(dataset) == 0)
        FAIL(STATUS_DATA, "%s: the dataset holds no images", directory);
    if (dataset_classes(dataset) > config->model.classes)
        FAIL(STATUS_USAGE, "%s: the dataset has %d classes, but model.classes is %d", directory,
             dataset_classes(dataset), config->model.classes);
fail:
    return status;
}

/* ---- weights by name ---- */

/* A file of weights. */
struct weights_file {
    const struct safetensors *file;
    const char *path; /* for messages */
};

static enum status find_tensor(void *context, const char *name, int dims, const int *shape, float **data)
{
    const struct weights_file *f = context;
    return safetensors_require(safetensors_find(f->file, name), f->path, name, dims, shape, data);
}

static bool is_known_tensor(const struct model *model, const char *name)
{
    size_t length = strlen(name), tail = strlen(".num_batches_tracked");
    return (length > tail && strcmp(name + length - tail, ".num_batches_tracked") == 0) || model_io_has(model, name);
}

/* Finds and checks every tensor. Unless `check`, copies it to the model. */
static enum status read_weights(struct model *model, const struct safetensors *file, const char *path, bool check)
{
    enum status status = STATUS_OK;
    const struct tensor_store store = { find_tensor, &(struct weights_file){ file, path } };
    for (int i = 0; i < safetensors_count(file); i++)
        if (!is_known_tensor(model, safetensors_at(file, i)->name))
            FAIL(STATUS_DATA, "%s: tensor '%s' is not one of this network's", path, safetensors_at(file, i)->name);
    TRY(model_io_read(model, &store, "", model->weights, model->running, check));
fail:
    return status;
}

enum status load_model_weights(struct model *model, const struct safetensors *file, const char *path)
{
    enum status status = STATUS_OK;
    TRY(read_weights(model, file, path, false));
    model_weights_changed(model);
fail:
    return status;
}

enum status load_model_init(struct model *model, const char *path, bool check)
{
    enum status status = STATUS_OK;
    struct safetensors *file = NULL;
    if (file_is_folder(path))
        FAIL(STATUS_IO, "model.init_from: %s is a folder: give the model.safetensors of a checkpoint", path);
    status = safetensors_open(&file, path);
    if (status != STATUS_OK) /* the user may not know where the path comes from */
        FAIL(status, "model.init_from: %s", status_message());
    TRY(read_weights(model, file, path, check));
    if (check)
        goto fail;
    model_weights_changed(model);
    model_normalize(model);
fail:
    safetensors_close(file);
    return status;
}
