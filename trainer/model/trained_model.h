/* trained_model.h - opens a checkpoint for inference: its network with weights and, if wanted, a dataset. */
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
    const json_t *classes; /* names of the network's classes; NULL if unknown */
    struct dataset *dataset;
    int32_t *label_map; /* for each class of the dataset the network's index of it; NULL if they are the same */
    struct device *device;
    struct model *model;
    bool averaged; /* its weights are the averages of the run */
};

/* Overrides of the configuration, such as "device.threads=4", that say where to compute. If empty: one thread per core,
 * a GPU if there is one, and fp32. */
struct device_overrides {
    char threads[64], kind[64], precision[64];
};

/* Opens a checkpoint, or the best one of a run. data: a dataset, or NULL for none. overrides: of the run's
 * configuration, as on a command line, except for keys that device_overrides sets. comm: its ranks share this host's
 * cores and take its GPUs in turn. The weights are the averages if the run kept them, and step sizes are converged.
 * label_map is made from the names of the classes, for the dataset's loader. A checkpoint that is older than such names
 * takes them from its training data; if that is gone, a warning says that labels are matched by index. After a failure
 * *trained needs no trained_model_finish. */
enum status trained_model_open(struct trained_model *trained, const char *path, const char *data,
                               char *const *overrides, int count, const struct device_overrides *machine,
                               const struct comm *comm);
void trained_model_finish(struct trained_model *trained); /* a struct of zeros is fine */

#endif
