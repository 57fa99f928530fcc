/* verify.h - checks a whole dataset, block by block. */
#ifndef CSC_DATA_VERIFY_H
#define CSC_DATA_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/dataset.h"

struct verify_report {
    int64_t blocks, damaged;
    uint64_t bytes;
    double seconds;
};

/* Compares every block's hash; deep also decodes every sample and counts classes and sizes. Each damaged block is
 * a warning; any makes STATUS_DATA. */
enum status dataset_verify(const struct dataset *dataset, bool deep, struct verify_report *report);

#endif
