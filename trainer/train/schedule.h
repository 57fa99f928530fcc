/* schedule.h - the learning rate at every optimizer step. */
#ifndef CSC_TRAINER_TRAIN_SCHEDULE_H
#define CSC_TRAINER_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "trainer/config/config.h"

struct schedule {
    enum config_schedule kind;
    double lr, final_lr, gamma;
    double start;         /* the warm-up's first rate over lr: 1/100, onecycle 1/25 */
    double warmup, total; /* optimizer steps */
    double steps_per_epoch;
    const double *milestones; /* epochs; the configuration's */
    int milestones_count;
};

/* The configuration must outlive the schedule. total_steps and steps_per_epoch >= 1. */
void schedule_init(struct schedule *schedule, const struct config *config, int64_t total_steps,
                   int64_t steps_per_epoch);

/* That the warm-up fits into the run, whose length is known now; of milestones that it does not reach one line is said
 * (if `say`). STATUS_USAGE. */
enum status schedule_check(const struct config *config, int64_t total_steps, int64_t steps_per_epoch, bool warn);

/* The rate of step t = 0 .. total-1: lr (1/100 + 99/100 t/W) for t < W steps of warm-up (onecycle 1/25 and
 * 24/25), then lr, lr gamma^(milestones passed), or final + (lr - final)/2 (1 + cos(pi (t-W)/(T-W))), as
 * torch.optim.lr_scheduler.CosineAnnealingLR with T_max = T: final_lr is where the run ends, at t = T. */
double schedule_lr(const struct schedule *schedule, int64_t step);

#endif
