/* load_model.h - from a configuration to a device, a model and its weights. All programs but csc-pack use it. */
#ifndef CSC_TRAINER_MODEL_LOAD_MODEL_H
#define CSC_TRAINER_MODEL_LOAD_MODEL_H

#include "comm/comm.h"
#include "data/read/dataset.h"
#include "layers/model.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/config/config.h"
#include "trainer/train/optimizer.h"

/* The number of cores that this rank has to itself: those of its affinity mask, divided by the ranks of this host that
 * share them. */
int rank_cores(const struct comm *comm);
/* If ranks of this host share its cores, pins this rank's threads to its share. */
void rank_pin_threads(const struct comm *comm, int threads);

/* STATUS_USAGE for keys that need another key. */
enum status config_check_combinations(const struct config *config);

/* Whether device.kind auto becomes cuda: this build and machine have a GPU. Otherwise a line of the log says why not.
 * Ranks of a host take its GPUs in turn: local_rank is the rank among them. */
bool config_finds_gpu(const struct config *config, int local_rank);

/* Resolves the configuration with what this rank and machine have. Without a dataset (NULL), keys that depend on one
 * stay `auto`. */
enum status config_resolve_on_rank(struct config *config, const struct comm *comm, struct dataset *dataset);

/* The configuration must be resolved for all of the following. */
enum status config_open_device(struct device **device, const struct config *config, int local_rank);

/* Its texts belong to the configuration, and are needed until the model is created. */
struct model_config config_to_model(const struct config *config);
struct optimizer_config config_to_optimizer(const struct config *config);

/* `training` chooses the batch sizes of training, shuffles and augments; otherwise those of evaluation. */
struct loader_config config_to_loader(const struct config *config, struct dataset *dataset, bool training,
                                      const struct comm *comm);

/* STATUS_USAGE if the dataset has more classes than the network, STATUS_DATA if it has no images. */
enum status config_check_dataset(const struct config *config, const struct dataset *dataset, const char *directory);

/* Reads weights and running statistics by their published names. The file must hold all of them, F32, of the network's
 * shapes and finite, and nothing else but PyTorch's num_batches_tracked. STATUS_DATA names the tensor. */
enum status load_model_weights(struct model *model, const struct safetensors *file, const char *path);
/* The same from the file model.init_from. check: only checks the file; the model need not be allocated then. */
enum status load_model_init(struct model *model, const char *path, bool check);

#endif
