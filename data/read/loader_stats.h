/* loader_stats.h - what a loader's work cost, for reports and benchmarks. */
#ifndef CSC_DATA_READ_LOADER_STATS_H
#define CSC_DATA_READ_LOADER_STATS_H

#include <stdint.h>

/* Of the micro-batches given out since creation. Seconds of work are summed over the workers, so they may exceed
 * the time that passed. */
struct loader_work {
    double read_s;              /* from storage or the page cache, and hashing */
    double decode_s;            /* decompression, pixels */
    double resize_s;            /* along the rows */
    double copy_s;              /* along the columns, flip, normalisation: into the batch */
    int64_t read_bytes, blocks; /* blocks read; others were still there */
    int64_t samples, skipped;   /* given; replaced or left out as damaged */
    int64_t rereads;            /* blocks that had to be read twice */
};
struct loader_stats {
    double waited_s; /* by the caller in loader_next */
    struct loader_work work;
};

#endif
