/* trained_model.h - a trained network to look at: a checkpoint on a dataset, ready to infer. */
#ifndef CSC_TRAINER_MODEL_TRAINED_MODEL_H
#define CSC_TRAINER_MODEL_TRAINED_MODEL_H

#include "comm/comm.h"
#include "data/read/dataset.h"
#include "layers/net.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"

struct trained_model {
    struct checkpoint *checkpoint;
    struct config config;
    const json_t *classes; /* the network's class names; NULL if nothing tells them */
    struct dataset *dataset;
    int32_t *label_map; /* the network's number of each of the dataset's classes; NULL: the same */
    struct device *device;
    struct model *model;
    bool averaged; /* its weights are the run's averages */
};

/* Where to compute, as overrides of the configuration: "device.threads=4". Empty: one thread per core, a GPU where
 * there is one (device.kind=auto), and fp32 on both. */
struct device_overrides {
    char threads[64], kind[64], precision[64];
};

/* A network keeps the names of its classes, by which label_map, for the dataset's loader, is made; one of an older
 * csc-train takes them from its training data where that is still there, or a warning says that labels go by number.
 * path: a checkpoint, or a run: its best. data: a dataset, or NULL for none. overrides: of the run's configuration, as
 * on a command line, but not of what belongs to the machine. comm: its ranks share this host's cores and take its GPUs
 * in turn. Weights are the averages where the run kept them; step sizes are converged. On failure *trained is finished.
 */
enum status trained_model_open(struct trained_model *trained, const char *path, const char *data,
                               char *const *overrides, int count, const struct device_overrides *machine,
                               const struct comm *comm);
void trained_model_finish(struct trained_model *trained); /* zeros are fine */

#endif
