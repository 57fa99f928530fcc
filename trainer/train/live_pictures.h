/* live_pictures.h - what TensorBoard shows of a run while it trains: curves (log.tensorboard), and pictures of atoms
 * and images (log.pictures_every_epochs). For rank 0 only. */
#ifndef CSC_TRAINER_TRAIN_LIVE_PICTURES_H
#define CSC_TRAINER_TRAIN_LIVE_PICTURES_H

#include "trainer/train/training_parts.h"

struct live_pictures;

/* *pictures stays NULL if log.tensorboard is off. Keeps a few images of the evaluation set, and takes all memory that
 * pictures need. */
enum status live_pictures_create(struct live_pictures **pictures, struct training *t);
void live_pictures_destroy(struct live_pictures *pictures); /* NULL is fine */

/* These do nothing if pictures is NULL. STATUS_IO if an event cannot be written. */
enum status live_pictures_step(struct live_pictures *pictures, int64_t step, const struct progress_metrics *metrics);
enum status live_pictures_evaluation(struct live_pictures *pictures, int64_t step, const struct evaluation *evaluation);

/* Draws the atoms, and the kept images beside their reconstructions. It runs the training net, so call it between steps
 * only. */
enum status live_pictures_draw(struct live_pictures *pictures, const struct training *t);

#endif
