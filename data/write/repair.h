/* repair.h - mends a dataset in place. */
#ifndef CSC_DATA_WRITE_REPAIR_H
#define CSC_DATA_WRITE_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct repair_report {
    int64_t damaged_blocks, restored_blocks; /* blocks */
    int64_t lost_samples;                    /* of blocks and shards that remain damaged, or are dropped */
    int restored_shards, lost_shards;
};

/* Restores damaged blocks, and missing or damaged shards, from `copy`: any dataset that holds the same blocks, such as
 * a part packed again; what is restored has the hash that it had, so the dataset is as it was. NULL: none.
 * With drop, blocks and shards that remain damaged are left out, which makes another dataset with another fingerprint;
 * without it they are STATUS_DATA. Interrupted, it goes on when called again. */
enum status dataset_repair(const char *directory, const char *copy, bool drop, struct repair_report *report);

#endif
