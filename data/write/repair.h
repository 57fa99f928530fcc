/* repair.h - repairs a dataset in place. */
#ifndef CSC_DATA_WRITE_REPAIR_H
#define CSC_DATA_WRITE_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct repair_report {
    int64_t damaged_blocks, restored_blocks;
    int64_t lost_samples; /* samples in blocks and shards that stay damaged or are dropped */
    int restored_shards, lost_shards;
};

/* Restores damaged blocks, and missing or damaged shards, from `copy`: a dataset that holds the same blocks, such as a
 * part packed again. NULL: there is none. Everything restored is checked against the hash it had, so the dataset
 * becomes what it was. With `drop`, what cannot be restored is left out. The dataset then has another fingerprint.
 * Without `drop` it is STATUS_DATA. If it is interrupted, call it again and it continues. */
enum status dataset_repair(const char *directory, const char *copy, bool drop, struct repair_report *report);

#endif
