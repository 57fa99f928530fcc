/* config_resolve.c - fills in defaults that depend on the dataset, the ranks and the machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/config/config_internal.h"

static void resolve_data(struct config *config, const struct config_facts *facts)
{
    static const double cifar[2][3] = { { 0.4914, 0.4822, 0.4465 }, { 0.2023, 0.1994, 0.2010 } };
    static const double imagenet[2][3] = { { 0.485, 0.456, 0.406 }, { 0.229, 0.224, 0.225 } };
    if (!config->model.classes)
        config->model.classes = facts->classes;
    if (!config->data.image_size && facts->classes)
        config->data.image_size = facts->image_size ? facts->image_size : 224;
    if (config->model.stem == CONFIG_STEM_AUTO && config->data.image_size)
        config->model.stem = config->data.image_size <= 64 ? CONFIG_STEM_CIFAR : CONFIG_STEM_IMAGENET;
    if (config->model.stem == CONFIG_STEM_AUTO)
        return;
    bool small = config->model.stem == CONFIG_STEM_CIFAR;
    if (config->data.augment < 0)
        config->data.augment = small ? AUGMENT_CIFAR : AUGMENT_IMAGENET;
    if (config->data.mean[0] < 0)
        memcpy(config->data.mean, small ? cifar[0] : imagenet[0], sizeof config->data.mean);
    if (config->data.std[0] < 0)
        memcpy(config->data.std, small ? cifar[1] : imagenet[1], sizeof config->data.std);
}

static void resolve_machine(struct config *config, const struct config_facts *facts)
{
    int cores = facts->cores;
    if (config->device.kind == CONFIG_DEVICE_AUTO)
        config->device.kind = facts->cuda ? CONFIG_DEVICE_CUDA : CONFIG_DEVICE_CPU;
    bool cuda = config->device.kind == CONFIG_DEVICE_CUDA;
    if (config->device.precision == CONFIG_PRECISION_AUTO)
        config->device.precision = cuda ? CONFIG_BF16 : CONFIG_FP32;
    if (cores <= 0)
        return;
    if (!config->device.threads)
        config->device.threads = cores < 1024 ? cores : 1024;
    if (!config->data.workers) { /* with a GPU the cores are free for the loader; on CPUs it needs few */
        int workers = cuda ? cores - 1 : cores / 16;
        config->data.workers = workers < 1 ? 1 : workers > 32 ? 32 : workers;
    }
}

static enum status resolve_batches(struct config *config, const struct config_facts *facts)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION];
    int batch = config->train.batch, ranks = facts->ranks;
    if (!config->train.micro_batch && ranks > 1)
        FAIL(STATUS_USAGE, "%s: train.micro_batch is required on %d ranks (batch norm sees one micro-batch at a time)",
             config_key_location(config, config_key_find("train.micro_batch"), location), ranks);
    if (!config->train.micro_batch && ranks == 1)
        config->train.micro_batch = batch;
    if (config->train.micro_batch && ranks > 0 && batch / config->train.micro_batch % ranks)
        FAIL(STATUS_USAGE, "%s: %d micro-batches (train.batch %d / train.micro_batch %d) cannot be shared by %d ranks",
             config_key_location(config, config_key_find("train.micro_batch"), location),
             batch / config->train.micro_batch, batch, config->train.micro_batch, ranks);
    if (!config->eval.batch)
        config->eval.batch = config->train.micro_batch;
fail:
    return status;
}

enum status config_resolve(struct config *config, const struct config_facts *facts)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION];
    if (config->model.classes && config->model.classes < facts->classes)
        FAIL(STATUS_USAGE, "%s: model.classes is %d, but the dataset has %d classes",
             config_key_location(config, config_key_find("model.classes"), location), config->model.classes,
             facts->classes);
    resolve_data(config, facts);
    resolve_machine(config, facts);
    TRY(resolve_batches(config, facts));
    bool onecycle = config->train.schedule.kind == CONFIG_ONECYCLE;
    if (config->train.schedule.warmup_epochs < 0 && !onecycle)
        config->train.schedule.warmup_epochs = 0;
    if (config->train.schedule.warmup_epochs < 0 && config->train.epochs)
        config->train.schedule.warmup_epochs = 0.3 * (double)config->train.epochs;
fail:
    return status;
}
