/* verify.h - checks every block of a dataset and reports all damage that it finds. */
#ifndef CSC_DATA_WRITE_VERIFY_H
#define CSC_DATA_WRITE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct verify_report {
    int64_t samples, blocks;
    int64_t damaged_blocks; /* not counting those of damaged shards */
    int shards;
    int damaged_shards; /* missing, or with a damaged header or table */
    uint64_t bytes;
    double seconds;
};

/* Compares every hash, with `workers` threads. `deep` also decodes every image and compares sizes and the number of
 * images of each class with the index. Warns of each damaged block and shard, up to 20.
 * STATUS_DATA if there is any damage, STATUS_IO if a shard cannot be opened. */
enum status dataset_verify(const char *directory, bool deep, int workers, struct verify_report *report);

#endif
