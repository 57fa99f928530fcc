/* validate.c - an evaluation during training. It evaluates what csc-eval would find in a checkpoint of this step:
 * averaged weights if there are any, and converged step sizes. Afterwards the weights, vectors and step sizes of
 * training are as before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "data/read/dataset.h"
#include "trainer/train/live_pictures.h"
#include "trainer/train/training_parts.h"

/* Exchanges the weights and running statistics with the averages, or back. */
static void swap_averages(struct training *t)
{
    struct model *m = t->model;
    struct optimizer *o = t->optimizer;
    float *weights = m->weights, *running = m->running;
    m->weights = t->eval_weights;
    m->running = o->ema_running;
    t->eval_weights = weights;
    o->ema_running = running;
    model_weights_changed(m);
}

/* Every rank converges the step sizes of its share of the layers. The sum over the ranks is exact, because all but one
 * of its terms are 0. */
static enum status measure_step_sizes(struct training *t, float *eta)
{
    enum status status = STATUS_OK;
    int count = t->model->csc_count;
    double *sums = calloc(count + 1, sizeof *sums);
    if (!sums)
        FAIL(STATUS_NOMEM, "out of memory for the step sizes");
    status = model_measure_step_sizes(t->model, t->comm->rank, t->comm->size, eta);
    for (int i = 0; i < count; i++)
        sums[i] = eta[i];
    watchdog_set_waiting(t->options.watchdog, true);
    TRY(comm_agree(t->comm, status));
    TRY(t->comm->ops->all_reduce_f64(t->comm, sums, count));
    watchdog_set_waiting(t->options.watchdog, false);
    for (int i = 0; i < count; i++)
        eta[i] = (float)sums[i];
fail:
    free(sums);
    return status;
}

static void set_step_sizes(struct model *m, const float *eta)
{
    memcpy(m->eta, eta, m->csc_count * sizeof *eta);
    model_step_sizes_changed(m);
}

static enum status with_converged_step_sizes(struct training *t, const struct evaluate_options *options)
{
    enum status status = STATUS_OK;
    struct model *m = t->model;
    float *eta = calloc(2 * m->csc_count + 1, sizeof *eta), *before = eta ? eta + m->csc_count : NULL;
    bool changed = false;
    TRY(comm_agree(t->comm, eta ? STATUS_OK : status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory")));
    if (m->power) {
        TRY(measure_step_sizes(t, eta));
        memcpy(before, m->eta, m->csc_count * sizeof *before);
        set_step_sizes(m, eta);
        changed = true;
    }
    TRY(evaluate(t->eval_net, t->config->eval.batch, m, t->val_loader, t->comm, options, &t->last_eval));
fail:
    if (changed)
        set_step_sizes(m, before);
    free(eta);
    return status;
}

static enum status with_averages(struct training *t)
{
    enum status status = STATUS_OK;
    struct evaluate_options options = {
        .total = dataset_samples(t->val_set), .progress = t->progress, .watchdog = t->options.watchdog, .step = t->step
    };
    bool averaged = t->eval_weights != NULL;
    if (averaged) {
        t->device->ops->axpby_f32(t->device, 1, t->optimizer->ema_weights, 0, t->optimizer->ema_weights,
                                  t->eval_weights, t->model->count);
        swap_averages(t);
        model_normalize(t->model);
    }
    status = with_converged_step_sizes(t, &options);
    if (averaged)
        swap_averages(t);
    return status;
}

static enum status report(struct training *t)
{
    enum status status = STATUS_OK;
    const struct evaluation *e = &t->last_eval;
    char missing[64];
    int64_t epoch = (t->step - 1) / t->steps_per_epoch;
    TRY(training_tolerate_full_disk(
        &t->metrics_warned, metrics_write(t->metrics, "eval", METRIC_INT("epoch", epoch), METRIC_INT("step", t->step),
                                          METRIC_NUMBER("loss", e->loss), METRIC_NUMBER("top1", e->top1),
                                          METRIC_NUMBER("top5", e->top5), METRIC_INT("images", e->images),
                                          METRIC_INT("missing", e->missing), METRIC_NUMBER("seconds", e->seconds))));
    TRY(training_tolerate_full_disk(&t->events_warned, live_pictures_evaluation(t->live_pictures, t->step, e)));
    evaluate_missing_text(e->missing, missing);
    log_info("step %lld: evaluation on %lld images%s: top-1 %.2f%%, top-5 %.2f%%, loss %.4f%s", (long long)t->step,
             (long long)e->images, missing, 100 * e->top1, 100 * e->top5, e->loss,
             t->best_step == t->step ? " (best so far)" : "");
fail:
    return status;
}

enum status training_evaluate(struct training *t)
{
    enum status status = STATUS_OK;
    double before = clock_seconds();
    watchdog_enter(t->options.watchdog, WATCHDOG_EVALUATING, t->step);
    TRY(training_agree(t, with_averages(t)));
    t->interval.start_s += clock_seconds() - before; /* evaluation is not training time */
    t->eval_step = t->step;
    t->top1 = t->last_eval.top1;
    if (isnan(t->best_top1) || t->top1 > t->best_top1) {
        t->best_top1 = t->top1;
        t->best_step = t->step;
    }
    if (t->comm->rank == 0)
        TRY(report(t));
fail:
    return status;
}
