/* step.c - one optimizer step: this rank's micro-batches, the sum over the ranks, and the update.
 *
 *     loader_next -> upload -> forward -> loss -> backward (-> buckets) -> bucket_wait -> optimizer
 *
 * A device with a queue is waited for only to read the loss and the norm of the gradient; meanwhile the next
 * micro-batch is copied to it. Forward, loss and backward are one call, net_train, which such a device may launch as a
 * graph. The reduce buffer (net.h) holds the loss, flags and statistics of batch norm, then all gradients. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "trainer/model/upload.h"
#include "trainer/train/stop.h"
#include "trainer/train/training_parts.h"

/* Sets this rank's flags in the head of the reduce buffer, before it is sent. */
static void raise_flags(struct training *t, float *sums)
{
    const struct config *c = t->config;
    float flags[REDUCE_HEAD - REDUCE_STOP] = { stop_requested() };
    flags[1] = t->comm->rank == 0 && c->checkpoint.every_minutes > 0 &&
               clock_seconds() - t->checkpoint_s >= 60 * c->checkpoint.every_minutes;
    t->device->ops->copy_in(t->device, sums + REDUCE_STOP, flags, sizeof flags);
}

void training_register_batches(struct training *t)
{
    const struct backend *ops = t->device->ops;
    size_t bytes;
    void *memory;
    for (int i = 0; ops->register_host_memory && (memory = loader_memory(t->loader, i, &bytes)); i++)
        if (ops->register_host_memory(t->device, memory, bytes) != STATUS_OK) {
            log_warn("rank %d: %s; copies to the GPU will be slower", t->comm->rank, status_message());
            status_clear();
            return;
        }
}

void training_unregister_batches(struct training *t)
{
    size_t bytes;
    void *memory;
    if (!t->device || !t->loader || !t->device->ops->unregister_host_memory)
        return;
    for (int i = 0; (memory = loader_memory(t->loader, i, &bytes)); i++)
        t->device->ops->unregister_host_memory(t->device, memory);
}

/* Notes what may be reported of a micro-batch later, when its memory belongs to the loader again. */
static void note_used_batch(struct training *t, const struct micro_batch *batch)
{
    struct used_batch *used = &t->used_batches[t->used_count];
    const float *loss = net_device_loss(t->net);
    used->count = batch->count;
    for (int i = 0; i < REPORTED_IDS && i < batch->count; i++)
        used->ids[i] = batch->ids[i];
    t->device->ops->axpby_f32(t->device, 1, loss, 0, loss, t->losses + t->used_count, 1);
    t->used_count++;
}

/* Takes the next micro-batch from the loader. A device that can compute meanwhile starts to copy its images. */
static enum status prefetch(struct training *t)
{
    enum status status = STATUS_OK;
    TRY(loader_next(t->loader, &t->prefetched));
    if (t->device->ops->prefetch_to_device) {
        size_t bytes;
        const void *memory = upload_memory(t->prefetched, net_image_floats(t->net), &bytes);
        t->device->ops->prefetch_to_device(t->device, memory, bytes);
    }
fail:
    return status;
}

static enum status run_micro_batch(struct training *t, float *sums, bool first_of_step, bool sends)
{
    enum status status = STATUS_OK;
    const struct micro_batch *batch;
    watchdog_enter(t->options.watchdog, WATCHDOG_LOADING, t->step + 1);
    if (!t->prefetched)
        TRY(prefetch(t));
    batch = t->prefetched;
    t->prefetched = NULL;
    watchdog_enter(t->options.watchdog, WATCHDOG_COMPUTING, t->step + 1);
    TRY(upload_batch(t->net, batch, batch->count));
    if (first_of_step)
        raise_flags(t, sums);
    TRY(net_train(t->net, (float)t->config->train.label_smoothing, sums, sends ? buckets_sink(t->buckets) : NULL));
    note_used_batch(t, batch);
    if (t->device->ops->prefetch_to_device && (t->used_count < t->local_micro_batches || t->step + 1 < t->total_steps))
        TRY(prefetch(t));
fail:
    return status;
}

/* Adds up `count` micro-batches. A deterministic run halves them as long as their number is even, so that the result
 * does not depend on how many ranks share them. What cannot be halved is added one after another. */
static enum status accumulate(struct training *t, int count, float *into, int level, bool first)
{
    enum status status = STATUS_OK;
    bool deterministic = t->config->run.deterministic;
    if (deterministic && count % 2 == 0) {
        float *half = t->tree[level];
        TRY(accumulate(t, count / 2, into, level + 1, first));
        t->device->ops->zero(t->device, half, t->reduce_layout.count * sizeof *half);
        TRY(accumulate(t, count / 2, half, level + 1, false));
        t->device->ops->axpby_f32(t->device, 1, into, 1, half, into, t->reduce_layout.count);
        return STATUS_OK;
    }
    for (int i = 0; i < count; i++) /* at level > 0 an addition follows, so training_step sends */
        TRY(run_micro_batch(t, into, first && i == 0, i == count - 1 && level == 0));
fail:
    return status;
}

/* Sends everything at once, after the last addition of the tree. */
static enum status push_all(struct training *t)
{
    enum status status = STATUS_OK;
    const struct gradient_sink *sink = buckets_sink(t->buckets);
    for (int i = 0; i <= t->model->params_count; i++)
        TRY(sink->ready(sink->context, i));
fail:
    return status;
}

/* What an operator can do about a loss that is not finite. */
static const char *advice(const struct training *t)
{
#define LOWER "nothing was saved: lower train.lr (--resume=auto --change=train.lr resumes from the last checkpoint)"
    return t->config->train.on_nonfinite == CONFIG_SKIP ? LOWER : LOWER ", or set train.on_nonfinite: skip";
}

/* STATUS_NONFINITE, with the ids of its samples, if a micro-batch of this rank had a loss that is not finite. */
static enum status find_bad_batch(struct training *t)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < t->used_count; i++) {
        const struct used_batch *batch = &t->used_batches[i];
        char ids[200] = "";
        float loss;
        t->device->ops->copy_out(t->device, &loss, t->losses + i, sizeof loss);
        for (int k = 0, used = 0; k < REPORTED_IDS && k < batch->count; k++)
            used += snprintf(ids + used, sizeof ids - used, " %llu", (unsigned long long)batch->ids[k]);
        if (!isfinite(loss))
            FAIL(STATUS_NONFINITE, "step %lld: the loss is %g on rank %d (samples%s%s); %s", (long long)t->step + 1,
                 loss, t->comm->rank, ids, batch->count > REPORTED_IDS ? " ..." : "", advice(t));
    }
fail:
    return status;
}

/* *skip: whether the update is skipped. STATUS_NONFINITE ends the run. Both are the same on all ranks. */
static enum status check_loss(struct training *t, double loss, double norm, bool *skip)
{
    enum status status = STATUS_OK;
    *skip = false;
    if (isfinite(loss) && isfinite(norm)) {
        t->skipped_in_row = 0;
        return STATUS_OK;
    }
    enum status mine = find_bad_batch(t);
    if (mine == STATUS_OK && isfinite(loss))
        mine = status_report(STATUS_NONFINITE, __FILE__, __LINE__,
                             "step %lld: the gradient is not finite (loss %g); %s", (long long)t->step + 1, loss,
                             advice(t));
    bool allowed = t->config->train.on_nonfinite == CONFIG_SKIP && ++t->skipped_in_row <= 10;
    if (!allowed) {
        TRY(training_agree(t, mine));
        if (t->comm->rank == 0) /* every rank's loss is finite, but their sum is not */
            mine = status_report(STATUS_NONFINITE, __FILE__, __LINE__,
                                 "step %lld: the loss over all ranks is not finite (%g); %s", (long long)t->step + 1,
                                 loss, advice(t));
        TRY(training_agree(t, mine));
    }
    if (t->comm->rank == 0)
        log_warn("step %lld: loss %g, gradient norm %g: the step is skipped (%d in a row)", (long long)t->step + 1,
                 loss, norm, t->skipped_in_row);
    status_clear();
    *skip = true;
fail:
    return status;
}

/* mean: 1 / micro_batches. norm: of the mean gradient. */
static void update(struct training *t, double mean, double norm)
{
    const struct config *c = t->config;
    double scale = c->train.clip > 0 && norm > c->train.clip ? mean * (c->train.clip / (norm + 1e-6)) : mean;
    t->device->ops->axpby_f32(t->device, 0.9f, t->model->running, (float)(0.1 * mean),
                              t->reduce_buffer + REDUCE_BN_STATISTICS, t->model->running, t->model->running_count);
    optimizer_step(t->optimizer, t->reduce_buffer + t->reduce_layout.gradients, (float)scale,
                   (float)schedule_lr(&t->schedule, t->step));
}

enum status training_step(struct training *t)
{
    enum status status = STATUS_OK;
    float head[REDUCE_HEAD];
    double exposed = 0;
    bool skip;
    const struct backend *ops = t->device->ops;
    t->used_count = 0;
    watchdog_enter(t->options.watchdog, WATCHDOG_COMPUTING, t->step + 1);
    TRY(model_advance_step_sizes(t->model, t->config->csc.power_iterations));
    ops->zero(t->device, t->reduce_buffer, t->reduce_layout.count * sizeof *t->reduce_buffer);
    TRY(accumulate(t, t->local_micro_batches, t->reduce_buffer, 0, true));
    watchdog_enter(t->options.watchdog, WATCHDOG_EXCHANGING, t->step + 1);
    if (t->config->run.deterministic && t->local_micro_batches % 2 == 0)
        TRY(push_all(t));
    TRY(bucket_wait(t->buckets, &exposed));
    watchdog_enter(t->options.watchdog, WATCHDOG_UPDATING, t->step + 1);
    ops->copy_out(t->device, head, t->reduce_buffer, sizeof head);
    t->should_stop = head[REDUCE_STOP] > 0;
    t->checkpoint_due = head[REDUCE_CHECKPOINT] > 0;
    float *grads = t->reduce_buffer + t->reduce_layout.gradients;
    double mean = 1.0 / t->micro_batches, loss = mean * head[REDUCE_LOSS];
    double norm = mean * sqrt(ops->dot_f32(t->device, grads, grads, t->model->count));
    TRY(check_loss(t, loss, norm, &skip));
    if (!skip) {
        update(t, mean, norm);
        t->interval.loss += loss;
        t->interval.updates++;
    }
    t->interval.exposed_s += exposed;
    t->interval.steps++;
    t->step++;
fail:
    return status;
}
