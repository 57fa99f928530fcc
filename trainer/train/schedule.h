/* schedule.h - the learning rate at every optimizer step. */
#ifndef CSC_TRAINER_TRAIN_SCHEDULE_H
#define CSC_TRAINER_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "trainer/config/config.h"

struct schedule {
    enum config_schedule kind;
    double lr, final_lr, gamma;
    double start;         /* the first rate of the warm-up, as a fraction of lr: 1/100, with onecycle 1/25 */
    double warmup, total; /* optimizer steps */
    double steps_per_epoch;
    const double *milestones; /* epochs; they belong to the configuration */
    int milestones_count;
};

/* total_steps and steps_per_epoch are at least 1. The configuration must outlive the schedule. */
void schedule_init(struct schedule *schedule, const struct config *config, int64_t total_steps,
                   int64_t steps_per_epoch);

/* STATUS_USAGE if the warm-up is longer than the run. If `warn`, warns of milestones that the run does not reach. */
enum status schedule_check(const struct config *config, int64_t total_steps, int64_t steps_per_epoch, bool warn);

/* The learning rate of step t = 0 .. T-1, where T is the number of steps of the run and W that of the warm-up:
 *     warm-up, t < W      lr (1/100 + 99/100 t/W), with onecycle lr (1/25 + 24/25 t/W)
 *     constant            lr
 *     step                lr gamma^(number of milestones passed)
 *     cosine, onecycle    final + (lr - final)/2 (1 + cos(pi (t-W)/(T-W))), as torch.optim.lr_scheduler's
 *                         CosineAnnealingLR with T_max = T: final_lr would be reached at t = T */
double schedule_lr(const struct schedule *schedule, int64_t step);

#endif
