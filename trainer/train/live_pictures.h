/* live_pictures.h - what a run shows while it trains, in TensorBoard's event files (log.tensorboard,
 * log.pictures_every_epochs). Rank 0 only. */
#ifndef CSC_TRAINER_TRAIN_LIVE_PICTURES_H
#define CSC_TRAINER_TRAIN_LIVE_PICTURES_H

#include "trainer/train/training_parts.h"

struct live_pictures;

/* *pictures stays NULL unless the configuration asks for one. Keeps a few images of the evaluation set for pictures.
 * Any memory for them is taken here. */
enum status live_pictures_create(struct live_pictures **pictures, struct training *t);
void live_pictures_destroy(struct live_pictures *pictures); /* NULL is fine */

/* All do nothing for NULL. */
enum status live_pictures_step(struct live_pictures *pictures, int64_t step, const struct progress_metrics *metrics);
enum status live_pictures_evaluation(struct live_pictures *pictures, int64_t step, const struct evaluation *evaluation);

/* Atoms, and images beside what comes back of them; runs the training net, so only between steps. */
enum status live_pictures_draw(struct live_pictures *pictures, const struct training *t);

#endif
