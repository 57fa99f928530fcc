/* loader_stats.h - what it cost to make batches, for metrics and benchmarks. */
#ifndef CSC_DATA_READ_LOADER_STATS_H
#define CSC_DATA_READ_LOADER_STATS_H

#include <stdint.h>

/* Work on the micro-batches that were returned since the loader was created. Seconds are summed over the workers, so
 * they can exceed the time that passed. */
struct loader_work {
    double read_s;      /* reading blocks, from storage or the page cache, and hashing them */
    double decode_s;    /* decompressing blocks and decoding images */
    double resize_s;    /* resizing along the rows */
    double copy_s;      /* resizing along the columns, flipping and normalising into the batch */
    int64_t read_bytes; /* compressed bytes that were read */
    int64_t blocks;     /* blocks that were read; others were still in memory */
    int64_t samples;    /* samples that were returned */
    int64_t skipped;    /* damaged samples that were replaced or left out */
    int64_t rereads;    /* blocks that had to be read twice */
};

struct loader_stats {
    double waited_s; /* by the caller, in loader_next */
    struct loader_work work;
};

#endif
