/* verify.h - checks a whole dataset, block by block, whatever is damaged. */
#ifndef CSC_DATA_WRITE_VERIFY_H
#define CSC_DATA_WRITE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct verify_report {
    int64_t samples, blocks, damaged_blocks; /* of blocks; without those of damaged shards */
    int shards, damaged_shards;              /* missing, or with a header or table that is damaged */
    uint64_t bytes;
    double seconds;
};

/* Compares every hash, in `workers` threads; deep also decodes every sample and counts classes and sizes. Each damaged
 * block and shard is a warning; any makes STATUS_DATA, or STATUS_IO if a shard cannot be opened. */
enum status dataset_verify(const char *directory, bool deep, int workers, struct verify_report *report);

#endif
