/* load_model.h - from a configuration to a device, a model and its weights; shared by the programs. */
#ifndef CSC_TRAINER_MODEL_LOAD_MODEL_H
#define CSC_TRAINER_MODEL_LOAD_MODEL_H

#include "comm/comm.h"
#include "data/read/dataset.h"
#include "layers/model.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/config/config.h"
#include "trainer/train/optimizer.h"

/* Cores that this rank has to itself: its affinity mask, shared out if ranks of this host share it. */
int rank_cores(const struct comm *comm);
/* Ranks that compute on this host's unbound cores each keep to their share of them. */
void rank_pin_threads(const struct comm *comm, int threads);

/* STATUS_USAGE for keys of the configuration that are known but not served yet. */
enum status check_config_supported(const struct config *config);

/* local_rank: among the ranks of this host, which take its GPUs in turn. `auto` is a GPU where this build and machine
 * have one, and says so if not. */
bool config_finds_gpu(const struct config *config, int local_rank); /* for device.kind auto: config_facts.cuda */
/* Resolves the configuration with what this rank and machine have. Without a dataset (NULL), keys that depend on one
 * stay `auto`. */
enum status config_resolve_on_rank(struct config *config, const struct comm *comm, struct dataset *dataset);

enum status config_open_device(struct device **device, const struct config *config, int local_rank);

/* config must be resolved; its strings are used until the model is created. */
struct model_config config_to_model(const struct config *config);
struct optimizer_config config_to_optimizer(const struct config *config);

/* For a dataset: AUGMENT, mean and std as the configuration says. workers and prefetch too. */
struct loader_config config_to_loader(const struct config *config, struct dataset *dataset, bool training,
                                      const struct comm *comm);

/* STATUS_USAGE if the dataset has more classes than the network. */
enum status config_check_dataset(const struct config *config, const struct dataset *dataset, const char *directory);

/* Weights and running statistics by their published names, all of them; others are refused, but for PyTorch's
 * num_batches_tracked. All are finite. STATUS_DATA names the tensor. */
enum status load_model_weights(struct model *model, const struct safetensors *file, const char *path);
/* The same from model.init_from; `check`: only whether it would do, with the model not allocated yet. */
enum status load_model_init(struct model *model, const char *path, bool check);

#endif
