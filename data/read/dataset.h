/* dataset.h - an open dataset directory: its index, and its samples by position. */
#ifndef CSC_DATA_READ_DATASET_H
#define CSC_DATA_READ_DATASET_H

#include <stdint.h>

#include "base/status.h"

struct dataset;

/* Reads and checks index.json and every shard's header and table. STATUS_IO if missing, STATUS_DATA if damaged. */
enum status dataset_open(struct dataset **dataset, const char *directory);
void dataset_close(struct dataset *dataset);

/* Keeps copies of blocks in `directory`, on storage of this node, using at most `limit` bytes there; blocks are
 * verified whichever they come from. Before any reading. STATUS_IO, STATUS_NOMEM. */
enum status dataset_use_disk_cache(struct dataset *dataset, const char *directory, uint64_t limit);

int64_t dataset_samples(const struct dataset *dataset);
int dataset_classes(const struct dataset *dataset);
const char *dataset_class_name(const struct dataset *dataset, int label);
char *const *dataset_class_names(const struct dataset *dataset);
/* Side of the images if all are squares of one size, else 0. */
int dataset_image_size(const struct dataset *dataset);
/* XXH64 of the index as text: what a checkpoint remembers of its data. */
const char *dataset_fingerprint(const struct dataset *dataset);

#endif
