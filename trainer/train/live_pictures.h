/* live_pictures.h - what a run shows while it trains, in TensorBoard's event files (log.tensorboard,
 * log.pictures_every_epochs). Rank 0 only. */
#ifndef CSC_TRAINER_TRAIN_LIVE_PICTURES_H
#define CSC_TRAINER_TRAIN_LIVE_PICTURES_H

#include "trainer/train/training_parts.h"

struct observer;

/* *observer stays NULL unless the configuration asks for one. Keeps a few images of the evaluation set for pictures.
 * Any memory for them is taken here. */
enum status observer_create(struct observer **observer, struct training *t);
void observer_destroy(struct observer *observer); /* NULL is fine */

/* All do nothing for NULL. */
enum status observer_step(struct observer *observer, int64_t step, const struct progress_metrics *numbers);
enum status observer_evaluation(struct observer *observer, int64_t step, const struct evaluation *evaluation);

/* Atoms, and images beside what comes back of them; runs the training net, so only between steps. */
enum status observer_pictures(struct observer *observer, const struct training *t);

#endif
