/* memory_plan.c - plans a run before it allocates device memory: data, network and sizes. Then it allocates. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/affinity.h"
#include "base/cgroup.h"
#include "base/file.h"
#include "base/log.h"
#include "trainer/model/classes.h"
#include "trainer/model/load_model.h"
#include "trainer/model/upload.h"
#include "trainer/train/training_parts.h"

/* A cache that cannot be used, such as another user's folder, is only warned of: the data are read from where they
 * are. */
static enum status use_cache(struct training *t, struct dataset *set, uint64_t limit, bool *warned)
{
    enum status status = STATUS_OK;
    if (!t->config->data.cache || t->options.dry_run || !set)
        return STATUS_OK;
    status = dataset_use_disk_cache(set, t->config->data.cache, limit);
    if (status != STATUS_IO)
        return status;
    if (!*warned && t->comm->local_rank == 0)
        log_warn("data.cache: %s; continuing without a cache", status_message());
    *warned = true;
    status_clear();
    return STATUS_OK;
}

static enum status open_data(struct training *t)
{
    enum status status = STATUS_OK;
    const struct config *c = t->config;
    bool warned = false;
    uint64_t limit = c->data.cache_gb < 1e9 ? (uint64_t)(c->data.cache_gb * 1e9) : UINT64_MAX;
    TRY(dataset_open(&t->train_set, c->data.train));
    if (c->data.val)
        TRY(dataset_open(&t->val_set, c->data.val));
    TRY(use_cache(t, t->train_set, limit, &warned));
    TRY(use_cache(t, t->val_set, limit, &warned));
fail:
    return status;
}

/* Matches the classes of the evaluation data with those of the training data, which are the network's. */
static enum status check_val_set(struct training *t)
{
    enum status status = STATUS_OK;
    const char *where = t->config->data.val;
    json_t *network = classes_list(dataset_class_names(t->train_set), dataset_classes(t->train_set));
    if (!network)
        FAIL(STATUS_NOMEM, "out of memory for the names of the classes");
    TRY(classes_map(network, dataset_class_names(t->val_set), dataset_classes(t->val_set), where, true,
                    &t->val_label_map));
    TRY(config_check_dataset(t->config, t->val_set, where));
    snprintf(t->val_fingerprint, sizeof t->val_fingerprint, "%s", dataset_fingerprint(t->val_set));
fail:
    json_decref(network);
    return status;
}

static enum status check_data(struct training *t)
{
    enum status status = STATUS_OK;
    const struct config *c = t->config;
    TRY(config_check_dataset(c, t->train_set, c->data.train));
    if (t->val_set)
        TRY(check_val_set(t));
    t->steps_per_epoch = dataset_samples(t->train_set) / c->train.batch;
    if (t->steps_per_epoch == 0)
        FAIL(STATUS_USAGE, "train.batch: %d is more than the %lld images of %s", c->train.batch,
             (long long)dataset_samples(t->train_set), c->data.train);
    t->total_steps = c->train.steps > 0 ? c->train.steps : c->train.epochs * t->steps_per_epoch;
    TRY(schedule_check(c, t->total_steps, t->steps_per_epoch, t->comm->rank == 0));
    t->micro_batches = c->train.batch / c->train.micro_batch;
    t->local_micro_batches = t->micro_batches / t->comm->size;
fail:
    return status;
}

static enum status create_nets(struct training *t)
{
    enum status status = STATUS_OK;
    const struct config *c = t->config;
    struct model_config model = config_to_model(c);
    TRY(model_create(&t->model, t->device, &model));
    TRY(net_create(&t->net, t->model, c->train.micro_batch, NET_TRAINING));
    if (t->val_set && c->eval.batch == c->train.micro_batch)
        t->eval_net = t->net;
    else if (t->val_set)
        TRY(net_create(&t->eval_net, t->model, c->eval.batch, NET_INFERENCE));
    t->reduce_layout = net_reduce_layout(t->model);
fail:
    return status;
}

/* Whether NCCL sums over several GPUs. Then NCCL also allocates the reduce buffer. */
static bool reduces_by_nccl(const struct training *t)
{
    return t->device->ops->stream && t->comm->size > 1;
}

/* Refuses what several GPUs cannot do, before anything is measured on them. */
static enum status check_gpus(struct training *t)
{
    enum status status = STATUS_OK;
    if (!reduces_by_nccl(t))
        return STATUS_OK;
    if (t->config->run.deterministic)
        FAIL(STATUS_USAGE, "run.deterministic: sums over several GPUs have no fixed order; use one GPU, or the CPU");
    TRY(comm_nccl_check(t->comm));
fail:
    return status;
}

enum status training_plan_data(struct training *t)
{
    enum status status = STATUS_OK;
    /* first what needs no data: configuration and device; then the data, and the keys that depend on them */
    TRY(training_agree(t, config_resolve_on_rank(t->config, t->comm, NULL)));
    TRY(training_agree(t, config_check_combinations(t->config)));
    if (t->config->device.kind != CONFIG_DEVICE_CUDA)
        rank_pin_threads(t->comm, t->config->device.threads);
    TRY(training_agree(t, config_open_device(&t->device, t->config, t->comm->local_rank)));
    TRY(training_agree(t, check_gpus(t)));
    TRY(training_agree(t, open_data(t)));
    TRY(training_agree(t, config_resolve_on_rank(t->config, t->comm, t->train_set)));
    TRY(training_agree(t, check_data(t)));
    TRY(training_check_replicas(t));
    TRY(training_agree(t, tuned_create(&t->tuned)));
    if (t->comm->local_rank == 0)
        affinity_warn(t->config->device.threads, t->config->data.workers, t->comm->local_size);
fail:
    return status;
}

/* With one value per channel batch norm gives its bias for every image, so no layer after it can learn. */
static void warn_single_values(const struct training *t)
{
    for (int i = 0; i < t->model->nodes_count; i++) {
        const struct node *node = &t->model->nodes[i];
        const struct edge *e = &t->model->edges[node->out];
        if (node->kind != NODE_NORM || (int64_t)e->h * e->w * t->config->train.micro_batch > 1)
            continue;
        log_warn("%s: batch norm sees one value per channel (1x1 pixels, train.micro_batch 1), so the network cannot "
                 "learn: raise train.micro_batch or data.image_size",
                 node->name);
        return;
    }
}

/* Rank 0 goes first, measures and chooses; the others take over its choices. A deterministic run measures nothing,
 * because two runs must give the same bits. */
enum status training_plan_nets(struct training *t)
{
    enum status status = STATUS_OK;
    if (!t->config->run.deterministic)
        t->device->tuned = t->tuned;
    TRY(training_agree(t, t->comm->rank == 0 ? create_nets(t) : STATUS_OK));
    if (t->comm->rank == 0)
        warn_single_values(t);
    TRY(training_broadcast_tuned(t));
    TRY(training_agree(t, t->comm->rank != 0 ? create_nets(t) : STATUS_OK));
    TRY(training_check_tuned(t));
fail:
    return status;
}

/* Takes from the arena: the reduce buffer, losses, a buffer per level of the tree, and weights for evaluating
 * averages. */
static void assign_memory(struct training *t)
{
    size_t bytes = t->reduce_layout.count * sizeof(float);
    t->reduce_buffer = reduces_by_nccl(t) ? t->nccl_reduce_buffer : arena_take(&t->arena, bytes);
    t->losses = arena_take(&t->arena, t->local_micro_batches * sizeof *t->losses);
    for (int level = 0, count = t->local_micro_batches; t->config->run.deterministic && count % 2 == 0;
         level++, count /= 2)
        t->tree[level] = arena_take(&t->arena, bytes);
    if (t->config->train.ema > 0)
        t->eval_weights = arena_take(&t->arena, t->model->count * sizeof(float));
}

size_t training_device_bytes(const struct training *t)
{
    struct training copy = *t;
    struct optimizer_config optimizer = config_to_optimizer(t->config);
    copy.arena = (struct arena){ 0 };
    assign_memory(&copy);
    if (reduces_by_nccl(t))
        copy.arena.used += t->reduce_layout.count *
                           (sizeof(float) + (t->config->comm.grad_dtype == COMM_BF16 ? sizeof(uint16_t) : 0));
    return t->model->arena.used + net_bytes(t->net) + optimizer_bytes(t->model, &optimizer) + copy.arena.used +
           (t->eval_net && t->eval_net != t->net ? net_bytes(t->eval_net) : 0);
}

size_t training_checkpoint_bytes(const struct training *t)
{
    size_t copies = t->config->train.ema > 0 ? 3 : 2;
    return copies * t->model->parameters * sizeof(float) + t->model->running_count * sizeof(float) + (1 << 16);
}

enum status training_divide_buckets(const struct training *t, struct comm *comm, double mb, struct buckets **out)
{
    enum status status = STATUS_OK;
    int count = t->model->params_count + 1;
    size_t *offsets = calloc(count, sizeof *offsets);
    if (!offsets)
        FAIL(STATUS_NOMEM, "out of memory for the gradient buckets");
    for (int i = 1; i < count; i++)
        offsets[i] = t->reduce_layout.gradients + t->model->params[count - 1 - i].offset;
    TRY(buckets_create(out, comm, t->reduce_buffer, t->reduce_layout.count, offsets, count, (size_t)(mb * 1e6),
                       t->config->comm.grad_dtype, t->config->run.deterministic));
fail:
    free(offsets);
    return status;
}

enum status training_create_buckets(struct training *t)
{
    enum status status = STATUS_OK;
    double mb;
    if (reduces_by_nccl(t))
        TRY(comm_nccl_create(&t->device_comm, t->comm, t->device->ops->stream(t->device), t->reduce_buffer,
                             t->reduce_layout.count, t->config->comm.grad_dtype, t->config->comm.timeout_s));
    struct comm *sums = t->device_comm ? t->device_comm : t->comm;
    TRY(training_autotune_bucket_mb(t, sums, &mb));
    TRY(training_divide_buckets(t, sums, mb, &t->buckets));
fail:
    return status;
}

enum status training_allocate(struct training *t)
{
    enum status status = STATUS_OK;
    struct optimizer_config optimizer = config_to_optimizer(t->config);
    TRY(model_allocate(t->model));
    TRY(net_allocate(t->net));
    if (t->eval_net && t->eval_net != t->net)
        TRY(net_allocate(t->eval_net));
    TRY(optimizer_create(&t->optimizer, t->model, &optimizer));
    if (reduces_by_nccl(t))
        TRY(comm_nccl_allocate(&t->nccl_reduce_buffer, t->reduce_layout.count * sizeof *t->reduce_buffer));
    assign_memory(t);
    TRY(t->device->ops->arena_allocate(t->device, &t->arena));
    assign_memory(t);
    struct loader_config loader = config_to_loader(t->config, t->train_set, true, t->comm);
    loader.raw = upload_takes_bytes(t->device);
    TRY(loader_create(&t->loader, &loader));
    training_register_batches(t);
    t->used_batches = calloc(t->local_micro_batches, sizeof *t->used_batches);
    if (!t->used_batches)
        FAIL(STATUS_NOMEM, "out of memory for %d micro-batches", t->local_micro_batches);
    if (t->val_set) {
        loader = config_to_loader(t->config, t->val_set, false, t->comm);
        loader.raw = upload_takes_bytes(t->device);
        loader.label_map = t->val_label_map;
        TRY(loader_create(&t->val_loader, &loader));
    }
fail:
    return status;
}

/* ---- memory and disk ---- */

/* Bytes that can still be allocated on this host, by the kernel's estimate, or in this process's control group. 0:
 * unknown. */
static size_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    unsigned long long kb = 0;
    size_t group = cgroup_memory("");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu kB", &kb) == 1)
            break;
    if (file)
        fclose(file);
    if (group == SIZE_MAX)
        return (size_t)kb * 1024;
    return kb && kb * 1024 < group ? (size_t)kb * 1024 : group ? group : 1;
}

/* The same for the device: the GPU of this rank, or the host, whose memory its ranks share. */
static size_t device_memory(const struct training *t)
{
    return t->device->ops->free_memory ? t->device->ops->free_memory(t->device) : memory_available();
}

/* Free bytes on the disk of the run's directory, which need not exist yet. 0: unknown. */
static size_t disk_available(const char *run)
{
    char path[4096];
    struct statvfs info;
    snprintf(path, sizeof path, "%s", run);
    while (statvfs(path, &info) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            return statvfs(slash ? "/" : ".", &info) == 0 ? (size_t)info.f_bavail * info.f_frsize : 0;
        *slash = 0;
    }
    return (size_t)info.f_bavail * info.f_frsize;
}

/* Such as "899.9 MB" or "22.5 GB". */
struct size_text {
    char text[24];
};

static struct size_text size_text(size_t bytes)
{
    struct size_text size;
    bool large = bytes >= (size_t)1e9;
    snprintf(size.text, sizeof size.text, "%.1f %s", (double)bytes / (large ? 1e9 : 1e6), large ? "GB" : "MB");
    return size;
}

/* Bytes that the run needs: of the device's own memory (separate), or of this host's, for all of its ranks. Rank 0 also
 * copies every checkpoint. OTHER_BYTES stands for libraries, stacks and batches of a process. */
static size_t bytes_needed(const struct training *t, bool separate)
{
    enum { OTHER_BYTES = 32 << 20 };
    size_t host = t->comm->rank == 0 ? training_checkpoint_bytes(t) : 0;
    return separate ? training_device_bytes(t) : (training_device_bytes(t) + OTHER_BYTES) * t->comm->local_size + host;
}

enum status training_check_capacity(const struct training *t)
{
    enum status status = STATUS_OK;
    bool separate = t->device->ops->free_memory != NULL; /* from the host's memory */
    size_t memory = device_memory(t), disk = disk_available(t->config->run.dir);
    size_t needed = bytes_needed(t, separate);
    size_t checkpoints = training_checkpoint_bytes(t) * (t->config->checkpoint.keep + 1);
    if (memory && needed > memory)
        FAIL(STATUS_NOMEM, "this run needs %s on %s, but %s are available: lower train.micro_batch",
             size_text(needed).text, separate ? "each GPU" : "this host", size_text(memory).text);
    if (disk && checkpoints > disk)
        FAIL(STATUS_IO, "%s: %d checkpoints need %s, but %s are free: lower checkpoint.keep or set run.dir",
             t->config->run.dir, t->config->checkpoint.keep + 1, size_text(checkpoints).text, size_text(disk).text);
fail:
    return status;
}

static const char *kind_name(const struct node *node)
{
    static const char *names[] = { [NODE_CONV] = "conv",    [NODE_CSC] = "csc",        [NODE_NORM] = "batch norm",
                                   [NODE_MAX] = "max pool", [NODE_MEAN] = "mean pool", [NODE_LINEAR] = "linear" };
    return names[node->kind];
}

static void report_node(const struct training *t, const struct node *node)
{
    const struct model *m = t->model;
    const struct edge *e = &m->edges[node->out];
    char shape[32], kernel[32] = "";
    size_t parameters = 0;
    for (int i = node->param; i >= 0 && i < node->param + node_params(node); i++)
        parameters += m->params[i].count;
    snprintf(shape, sizeof shape, "%dx%dx%d", e->h, e->w, e->c);
    if (node->kind == NODE_CONV || node->kind == NODE_CSC || node->kind == NODE_MAX)
        snprintf(kernel, sizeof kernel, " %dx%d/%d", node->conv.k, node->conv.k, node->conv.stride);
    printf("  %-26s %-10s%-8s -> %-12s %10zu%s%s\n", node->name, kind_name(node), kernel, shape, parameters,
           node->add >= 0 ? "  + shortcut" : "", node->relu ? "  ReLU" : "");
}

void training_print_plan(const struct training *t)
{
    const struct config *c = t->config;
    const struct model *m = t->model;
    char *arch = config_text(c, "model.arch");
    printf("network  %s, %zu parameters, %d CSC-layers, %.2f GFLOP per image forward\n", arch ? arch : "",
           m->parameters, m->csc_count, 2e-9 * model_forward_macs(m));
    for (int i = 0; i < m->nodes_count; i++)
        report_node(t, &m->nodes[i]);
    printf("data     %lld images in %d classes, %d x %d pixels", (long long)dataset_samples(t->train_set),
           dataset_classes(t->train_set), c->data.image_size, c->data.image_size);
    if (t->val_set)
        printf("; %lld for evaluation", (long long)dataset_samples(t->val_set));
    printf("\nsteps    %lld of %d images, %lld per epoch; %d rank%s of %d micro-batch%s of %d\n",
           (long long)t->total_steps, c->train.batch, (long long)t->steps_per_epoch, t->comm->size,
           t->comm->size == 1 ? "" : "s", t->local_micro_batches, t->local_micro_batches == 1 ? "" : "es",
           c->train.micro_batch);
    printf("memory   %s per rank; %s available\n", size_text(training_device_bytes(t)).text,
           size_text(device_memory(t)).text);
    printf("disk     %s a checkpoint, %d kept in %s; %s free\n", size_text(training_checkpoint_bytes(t)).text,
           c->checkpoint.keep, c->run.dir, size_text(disk_available(c->run.dir)).text);
    free(arch);
}
