/* schedule.c - the learning rate as a function of the step alone: warm-up, then constant, step, cosine or one cycle. */
#include "trainer/train/schedule.h"

#include <math.h>

#include "base/log.h"

void schedule_init(struct schedule *schedule, const struct config *config, int64_t total_steps, int64_t steps_per_epoch)
{
    bool onecycle = config->train.schedule.kind == CONFIG_ONECYCLE;
    double warmup_epochs = config->train.schedule.warmup_epochs;
    double warmup = warmup_epochs * (double)steps_per_epoch;
    if (warmup_epochs < 0)
        warmup = onecycle ? 0.3 * (double)total_steps : 0;
    *schedule = (struct schedule){
        .kind = config->train.schedule.kind,
        .lr = config->train.lr,
        .final_lr = config->train.schedule.final_lr,
        .gamma = config->train.schedule.gamma,
        .start = onecycle ? 1.0 / 25 : 1.0 / 100,
        .warmup = warmup,
        .total = (double)total_steps,
        .steps_per_epoch = (double)steps_per_epoch,
        .milestones = config->train.schedule.milestones,
        .milestones_count = config->train.schedule.milestones_count,
    };
}

enum status schedule_check(const struct config *config, int64_t total_steps, int64_t steps_per_epoch, bool warn)
{
    enum status status = STATUS_OK;
    double warmup = config->train.schedule.warmup_epochs, epochs = (double)total_steps / (double)steps_per_epoch;
    int count = config->train.schedule.milestones_count;
    if (warmup > epochs)
        FAIL(STATUS_USAGE,
             "train.schedule.warmup_epochs of %g is longer than the run: %lld steps, %lld an epoch, "
             "are %.3g epochs",
             warmup, (long long)total_steps, (long long)steps_per_epoch, epochs);
    for (int i = 0; warn && i < count; i++)
        if (config->train.schedule.milestones[i] >= epochs) {
            log_warn("train.schedule.milestones: %g is not before the end of this run of %.3g epochs (%lld steps): the "
                     "learning rate does not change there",
                     config->train.schedule.milestones[i], epochs, (long long)total_steps);
            break;
        }
fail:
    return status;
}

static double step_lr(const struct schedule *s, double t)
{
    double lr = s->lr;
    for (int i = 0; i < s->milestones_count; i++)
        if (t >= rint(s->milestones[i] * s->steps_per_epoch))
            lr *= s->gamma;
    return lr;
}

static double cosine_lr(const struct schedule *s, double t)
{
    const double pi = 3.14159265358979323846;
    double progress = fmin((t - s->warmup) / (s->total - s->warmup), 1); /* of the decay, 0 to 1 */
    return s->final_lr + 0.5 * (s->lr - s->final_lr) * (1 + cos(pi * progress));
}

double schedule_lr(const struct schedule *s, int64_t step)
{
    double t = (double)step;
    if (t < s->warmup)
        return s->lr * (s->start + (1 - s->start) * t / s->warmup);
    switch (s->kind) {
    case CONFIG_STEP: return step_lr(s, t);
    case CONFIG_COSINE:
    case CONFIG_ONECYCLE: return cosine_lr(s, t);
    default: return s->lr;
    }
}
