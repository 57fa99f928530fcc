/* loop.c - a run: its start or resume, its steps with evaluations and checkpoints in between, and its end. Phases that
 * all ranks enter together end in training_agree, so that a failure is reported once. A rank that fails within a step
 * ends the others (see csc_train.c). */
#include "trainer/train/loop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "layers/backend/device.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/model/load_model.h"
#include "trainer/train/live_pictures.h"
#include "trainer/train/stop.h"
#include "trainer/train/training_parts.h"

/* ---- reports ---- */

static double interval_steps(const struct interval *i)
{
    return (double)(i->steps ? i->steps : 1);
}

/* What a rank reports of an interval. The first five are shares of its time: how long the step waited for the loader,
 * and what the loader's workers did, summed over them. */
enum { RANK_WAIT, RANK_READ, RANK_DECODE, RANK_RESIZE, RANK_COPY, RANK_SKIPPED, RANK_BUSY, RANK_VALUES };

static void measure_rank(const struct interval *i, const struct loader_stats *now, double seconds,
                         double n[RANK_VALUES])
{
    const struct loader_work *a = &i->data.work, *b = &now->work;
    n[RANK_WAIT] = (now->waited_s - i->data.waited_s) / seconds;
    n[RANK_READ] = (b->read_s - a->read_s) / seconds;
    n[RANK_DECODE] = (b->decode_s - a->decode_s) / seconds;
    n[RANK_RESIZE] = (b->resize_s - a->resize_s) / seconds;
    n[RANK_COPY] = (b->copy_s - a->copy_s) / seconds;
    n[RANK_SKIPPED] = (double)b->skipped; /* since the start of this invocation */
    n[RANK_BUSY] = fmax(seconds - i->exposed_s, 0) /
                   interval_steps(i); /* seconds per step without waiting for other ranks */
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Writes a line of metrics. data: (ranks, RANK_VALUES). */
static enum status write_step_record(struct training *t, const struct progress_metrics *n, double seconds,
                                     const double *data)
{
    static const char *const names[] = { "rank_wait", "rank_read", "rank_decode", "rank_resize", "rank_copy" };
    enum status status = STATUS_OK;
    int ranks = t->comm->size;
    int64_t skipped = 0;
    int slowest = 0;
    double slowest_s, *busy, *columns = calloc((size_t)ranks * (RANK_SKIPPED + 1), sizeof *columns);
    if (!columns)
        FAIL(STATUS_NOMEM, "out of memory for the statistics of %d ranks", ranks);
    busy = columns + ranks * RANK_SKIPPED;
    for (int r = 0; r < ranks; r++) {
        skipped += (int64_t)data[r * RANK_VALUES + RANK_SKIPPED];
        for (int k = 0; k < RANK_SKIPPED; k++)
            columns[k * ranks + r] = data[r * RANK_VALUES + k];
        busy[r] = data[r * RANK_VALUES + RANK_BUSY];
        slowest = busy[r] > busy[slowest] ? r : slowest;
    }
    slowest_s = busy[slowest];
    qsort(busy, (size_t)ranks, sizeof *busy, ascending);
    double exposed = t->interval.exposed_s;
    TRY(training_tolerate_full_disk(
        &t->metrics_warned,
        metrics_write(
            t->metrics, "step", METRIC_INT("epoch", (t->step - 1) / t->steps_per_epoch), METRIC_INT("step", t->step),
            METRIC_NUMBER("loss", n->loss), METRIC_NUMBER("lr", n->lr), METRIC_NUMBER("img_s", n->img_s),
            METRIC_NUMBER("data_wait", n->data_wait), METRIC_NUMBER("comm_wait", exposed / seconds),
            METRIC_NUMBER("comm_exposed_s", exposed / interval_steps(&t->interval)),
            METRIC_INT("slowest_rank", slowest), METRIC_NUMBER("slowest_s", slowest_s),
            METRIC_NUMBER("median_s", busy[ranks / 2]), METRIC_INT("skipped_samples", skipped),
            METRIC_NUMBERS(names[0], columns, ranks), METRIC_NUMBERS(names[1], columns + ranks, ranks),
            METRIC_NUMBERS(names[2], columns + 2 * ranks, ranks), METRIC_NUMBERS(names[3], columns + 3 * ranks, ranks),
            METRIC_NUMBERS(names[4], columns + 4 * ranks, ranks))));
    TRY(training_tolerate_full_disk(&t->events_warned, live_pictures_step(t->live_pictures, t->step, n)));
    progress_report(t->progress, t->step, n);
fail:
    free(columns);
    return status;
}

/* Gathers the ranks' reports of the interval and starts the next one. Collective. */
static enum status report_interval(struct training *t)
{
    enum status status = STATUS_OK;
    struct loader_stats stats;
    loader_stats(t->loader, &stats);
    struct interval *i = &t->interval;
    double seconds = fmax(clock_seconds() - i->start_s, 1e-9), mine[RANK_VALUES], *all = NULL;
    measure_rank(i, &stats, seconds, mine);
    struct progress_metrics n = {
        .loss = i->updates ? i->loss / (double)i->updates : NAN,
        .lr = schedule_lr(&t->schedule, t->step - 1),
        .img_s = (double)i->updates * t->config->train.batch / seconds,
        .data_wait = mine[RANK_WAIT],
    };
    all = calloc((size_t)t->comm->size, sizeof mine);
    if (!all)
        FAIL(STATUS_NOMEM, "out of memory for the statistics of %d ranks", t->comm->size);
    watchdog_set_waiting(t->options.watchdog, true);
    TRY(t->comm->ops->all_gather(t->comm, mine, sizeof mine, all));
    watchdog_set_waiting(t->options.watchdog, false);
    if (t->run_directory) {
        run_directory_check(t->run_directory);
        TRY(write_step_record(t, &n, seconds, all));
    }
    training_start_interval(t);
fail:
    free(all);
    return status;
}

/* ---- checkpoints ---- */

/* Takes the result of a write that has ended, or waits for one with `wait`, and logs it. *written is the outcome and
 * *step the checkpoint's step. For rank 0. */
static enum status collect_write(struct training *t, bool wait, enum status *written, int64_t *step)
{
    enum status status = STATUS_OK;
    struct checkpoint_result r;
    *written = STATUS_OK;
    if (!checkpoint_writer_result(t->writer, wait, &r))
        return STATUS_OK;
    *written = status_restore(&r.record);
    *step = r.step;
    if (*written != STATUS_OK) {
        t->checkpoint_step = -1;
        return STATUS_OK;
    }
    TRY(training_tolerate_full_disk(&t->metrics_warned,
                                    metrics_write(t->metrics, "checkpoint", METRIC_INT("step", r.step),
                                                  METRIC_TEXT("path", r.path), METRIC_NUMBER("seconds", r.seconds),
                                                  METRIC_NUMBER("pause", t->checkpoint_pause_s))));
fail:
    return status;
}

/* A checkpoint that cannot be written does not end the run: rank 0 warns, and the last good one stays. */
static enum status finish_checkpoint(struct training *t, bool wait)
{
    enum status status = STATUS_OK, written;
    int64_t step;
    if (t->comm->rank != 0)
        return STATUS_OK;
    TRY(collect_write(t, wait, &written, &step));
    if (written != STATUS_OK) {
        log_warn("no checkpoint at step %lld: %s; training continues, the last good checkpoint stays", (long long)step,
                 status_message());
        status_clear();
    }
fail:
    return status;
}

/* Waits for the last write if it has not ended, copies the state and starts to write it in the background. */
static enum status start_checkpoint(struct training *t)
{
    enum status status = STATUS_OK;
    double before = clock_seconds();
    t->checkpoint_step = t->step;
    t->checkpoint_s = before;
    if (t->comm->rank != 0)
        return STATUS_OK;
    watchdog_enter(t->options.watchdog, WATCHDOG_SAVING, t->step);
    run_directory_check(t->run_directory);
    TRY(finish_checkpoint(t, true));
    t->checkpoint_step = t->step;
    status = training_begin_checkpoint(t);
    t->checkpoint_pause_s = clock_seconds() - before;
    t->interval.start_s += t->checkpoint_pause_s;
    if (status == STATUS_NOMEM) {
        t->checkpoint_step = -1;
        log_warn("no checkpoint at step %lld: %s; training continues", (long long)t->step, status_message());
        status_clear();
        status = STATUS_OK;
    }
fail:
    return status;
}

/* Makes sure that there is a checkpoint of the last step. Collective. */
static enum status write_last_checkpoint(struct training *t)
{
    enum status status = STATUS_OK, written = STATUS_OK;
    int64_t step;
    watchdog_enter(t->options.watchdog, WATCHDOG_SAVING, t->step);
    if (t->run_directory)
        run_directory_check(t->run_directory);
    TRY(finish_checkpoint(t, true));
    bool there = t->checkpoint_step == t->step; /* only rank 0 knows whether it was written */
    watchdog_set_waiting(t->options.watchdog, true);
    TRY(t->comm->ops->broadcast(t->comm, &there, sizeof there, 0));
    watchdog_set_waiting(t->options.watchdog, false);
    if (there)
        return STATUS_OK;
    t->checkpoint_step = t->step;
    if (t->comm->rank == 0) {
        double before = clock_seconds();
        written = training_begin_checkpoint(t);
        t->checkpoint_pause_s = clock_seconds() - before;
        if (written == STATUS_OK)
            TRY(collect_write(t, true, &written, &step));
    }
    TRY(training_agree(t, written));
fail:
    return status;
}

static bool is_due(int64_t count, int64_t interval)
{
    return interval > 0 && count % interval == 0;
}

static enum status draw_pictures(struct training *t)
{
    double before = clock_seconds();
    enum status status = training_agree(t, live_pictures_draw(t->live_pictures, t));
    t->interval.start_s += clock_seconds() - before;
    return status;
}

/* Logs, evaluates and saves if that is due after a step. */
static enum status after_step(struct training *t)
{
    enum status status = STATUS_OK;
    const struct config *c = t->config;
    bool epoch_ends = t->step % t->steps_per_epoch == 0;
    int64_t epochs = t->step / t->steps_per_epoch;
    if (t->progress)
        progress_step(t->progress, t->step);
    if (is_due(t->step, c->run.log_every) || t->step == t->total_steps)
        TRY(report_interval(t));
    if (t->val_set && epoch_ends && is_due(epochs, c->eval.every_epochs))
        TRY(training_evaluate(t));
    if (epoch_ends && is_due(epochs, c->log.pictures_every_epochs))
        TRY(draw_pictures(t));
    if (is_due(t->step, c->checkpoint.every_steps) || (epoch_ends && is_due(epochs, c->checkpoint.every_epochs)) ||
        t->checkpoint_due)
        if (t->step < t->total_steps) /* finish_run writes the last one */
            TRY(start_checkpoint(t));
    TRY(finish_checkpoint(t, false));
fail:
    return status;
}

/* ---- steps and end ---- */

static enum status finish_run(struct training *t, bool stopped)
{
    enum status status = STATUS_OK;
    if (t->val_set && t->eval_step != t->step && !stopped)
        TRY(training_evaluate(t));
    TRY(write_last_checkpoint(t));
    if (t->comm->rank != 0)
        return STATUS_OK;
    progress_destroy(t->progress);
    t->progress = NULL;
    double seconds = t->trained_before_s + clock_seconds() - t->started_s;
    TRY(training_tolerate_full_disk(
        &t->metrics_warned, metrics_write(t->metrics, "end", METRIC_TEXT("status", stopped ? "stopped" : "done"),
                                          METRIC_INT("step", t->step), METRIC_NUMBER("top1", t->top1),
                                          METRIC_NUMBER("best_top1", t->best_top1),
                                          METRIC_INT("best_step", t->best_step), METRIC_NUMBER("seconds", seconds))));
    if (stopped)
        log_info("stopped at step %lld of %lld (%s); to resume, run the same command with --resume=auto",
                 (long long)t->step, (long long)t->total_steps,
                 stop_reason()[0] ? stop_reason() : "as another rank was asked to");
    else
        log_info("done: %lld steps in %.0f s%s", (long long)t->step, seconds, t->val_set ? "" : ", without evaluation");
fail:
    return status;
}

static enum status run_steps(struct training *t, bool *stopped)
{
    enum status status = STATUS_OK;
    const struct train_options *o = &t->options;
    *stopped = false;
    while (t->step < t->total_steps && !*stopped) {
        TRY(training_step(t));
        TRY(after_step(t));
        if (o->stop_after > 0 && t->step - t->first_step >= o->stop_after)
            stop_request("--stop-after"), t->should_stop = true;
        *stopped = t->should_stop && t->step < t->total_steps;
    }
fail:
    return status;
}

void training_finish(struct training *t)
{
    checkpoint_writer_destroy(t->writer);
    training_free_snapshot(t);
    progress_destroy(t->progress);
    live_pictures_destroy(t->live_pictures);
    buckets_destroy(t->buckets);
    comm_destroy(t->device_comm);
    comm_nccl_free(t->nccl_reduce_buffer);
    training_unregister_batches(t);
    free(t->used_batches);
    loader_destroy(t->loader);
    loader_destroy(t->val_loader);
    optimizer_destroy(t->optimizer);
    if (t->device)
        t->device->ops->arena_finish(t->device, &t->arena);
    if (t->eval_net != t->net)
        net_destroy(t->eval_net);
    net_destroy(t->net);
    model_destroy(t->model);
    device_close(t->device);
    dataset_close(t->train_set);
    dataset_close(t->val_set);
    free(t->val_label_map);
    metrics_close(t->metrics);
    checkpoint_close(t->resume_checkpoint);
    free(t->recipe_changes);
    tuned_destroy(t->tuned);
    run_directory_close(t->run_directory);
}

enum status train(struct config *config, struct comm *comm, const struct train_options *options, bool *agreed)
{
    enum status status = STATUS_OK;
    bool stopped = false;
    struct training t = { .config = config,
                          .comm = comm,
                          .options = *options,
                          .agreed = agreed,
                          .checkpoint_step = -1,
                          .eval_step = -1,
                          .top1 = NAN,
                          .best_top1 = NAN };
    *agreed = false;
    TRY(training_plan_data(&t));
    if (!options->dry_run)
        TRY(training_open_run_directory(&t));
    TRY(training_plan_nets(&t));
    TRY(training_agree(&t, training_check_capacity(&t)));
    if (options->dry_run) {
        TRY(training_agree(&t, comm->rank == 0 ? training_check_start(&t) : STATUS_OK));
        if (comm->rank == 0)
            training_print_plan(&t);
    } else {
        TRY(training_agree(&t, training_allocate(&t)));
        TRY(training_create_buckets(&t));
        TRY(training_start(&t));
        TRY(run_steps(&t, &stopped));
        TRY(finish_run(&t, stopped));
        if (stopped) {
            *agreed = true;
            status = STATUS_STOPPED;
        }
    }
fail:
    if (status != STATUS_OK && !*agreed && watchdog_announce_failure(options->watchdog, status))
        log_failure(); /* before anything else: the other ranks wait */
    training_finish(&t);
    return status;
}
