/* loader_worker.h - one worker's part of a micro-batch: find, read, decode, augment its samples. */
#ifndef CSC_DATA_READ_LOADER_WORKER_H
#define CSC_DATA_READ_LOADER_WORKER_H

#include "data/read/augment.h"
#include "data/read/block_cache.h"
#include "data/read/dataset_internal.h"
#include "data/read/order.h"

/* What all workers of a loader share; constant but for the cache. */
struct supply {
    const struct dataset *dataset;
    struct augmenter augmenter;
    struct cache cache;
    const int32_t *label_map;
    bool skip_bad, scaled_jpeg;
};

/* What one worker keeps; zero-initialised but for last = -1. */
struct supplier {
    struct block_reader reader;
    struct augment_scratch scratch;
    struct block block; /* the block it read last, if the cache did not take it */
    int64_t last;       /* its number, or -1 */
    double read_s;      /* per block, smoothed: whether storage is slow enough to be asked in advance */
    struct loader_work work;
};

/* Asks storage for a sample that will be wanted, unless reads come from memory anyway. */
void supply_advise(const struct supply *supply, const struct supplier *supplier, uint64_t id);
void supplier_finish(struct supplier *supplier);

enum { LABEL_MISSING = -1 };

/* Sample *id to out (S,S,3) and *label. One that is damaged and may be skipped: in training the next good one, and *id
 * is then the sample that was taken; in an evaluation *label is LABEL_MISSING. STATUS_DATA, STATUS_IO, STATUS_NOMEM. */
enum status supply_sample(struct supply *supply, struct supplier *supplier, int64_t epoch, uint64_t *id, void *out,
                          int32_t *label);

#endif
