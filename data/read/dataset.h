/* dataset.h - an open dataset: the index of a directory and the shards that it names. */
#ifndef CSC_DATA_READ_DATASET_H
#define CSC_DATA_READ_DATASET_H

#include <stdint.h>

#include "base/status.h"

struct dataset;

/* Opens a dataset; reads and checks index.json and the header and table of every shard.
 * Errors: STATUS_IO if a file is missing or cannot be read, STATUS_DATA if one is damaged, STATUS_NOMEM. */
enum status dataset_open(struct dataset **dataset, const char *directory);

/* Closes a dataset. NULL is allowed. */
void dataset_close(struct dataset *dataset);

/* Keeps copies of blocks in `directory`, on storage of this node, using at most `limit` bytes there. A copy's hash is
 * checked like that of the block itself. Call it before anything is read. Errors: STATUS_IO, STATUS_NOMEM. */
enum status dataset_use_disk_cache(struct dataset *dataset, const char *directory, uint64_t limit);

int64_t dataset_samples(const struct dataset *dataset);
int dataset_classes(const struct dataset *dataset);

/* The name of a class, "?" if there is no such label. */
const char *dataset_class_name(const struct dataset *dataset, int label);

/* The names of all classes in label order, owned by the dataset. */
char *const *dataset_class_names(const struct dataset *dataset);

/* The side of the images in pixels if all are squares of one size, else 0. */
int dataset_image_size(const struct dataset *dataset);

/* The hash of the index in hexadecimal. It depends on every byte of the dataset, and checkpoints record it. */
const char *dataset_fingerprint(const struct dataset *dataset);

#endif
