/* trained.h - a trained network to look at: a checkpoint on a dataset, ready to infer. */
#ifndef CSC_TRAINER_TRAINED_H
#define CSC_TRAINER_TRAINED_H

#include "data/dataset.h"
#include "layers/net.h"
#include "trainer/checkpoint.h"
#include "trainer/config.h"

struct trained {
    struct checkpoint *checkpoint;
    struct config config;
    struct dataset *dataset;
    struct device *device;  /* the CPU, in fp32 */
    struct model *model;
    bool averaged;          /* its weights are the run's averages */
};

/* path: a checkpoint, or a run: its best. data: a dataset, or NULL for none. overrides: of the run's configuration, as on a command line, but not
 * of what belongs to the machine. threads: "device.threads=4", or "" for one per core.
 * Weights are the averages where the run kept them; step sizes are converged. On failure *trained is finished. */
enum status trained_open(struct trained *trained, const char *path, const char *data, char *const *overrides, int count,
                         const char *threads, int cores);
void trained_finish(struct trained *trained); /* zeros are fine */

#endif
