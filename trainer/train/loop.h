/* loop.h - a training run, from its start or a resume to its end, on all ranks. */
#ifndef CSC_TRAINER_TRAIN_LOOP_H
#define CSC_TRAINER_TRAIN_LOOP_H

#include <stdbool.h>

#include "comm/comm.h"
#include "trainer/config/config.h"
#include "trainer/train/train_options.h"

/* Collective: all ranks call it with the same configuration, which it resolves. Returns STATUS_STOPPED if the run was
 * stopped on request, after a checkpoint. After a failure, *agreed says who knows of it: if true, all ranks return the
 * same status, and comm_should_report says which of them reports it; if false, only this rank knows. It has reported
 * the failure, and the caller must end the other ranks. */
enum status train(struct config *config, struct comm *comm, const struct train_options *options, bool *agreed);

#endif
