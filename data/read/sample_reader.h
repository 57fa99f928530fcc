/* sample_reader.h - one worker's part of a micro-batch: find, read, decode, augment its samples. */
#ifndef CSC_DATA_READ_SAMPLE_READER_H
#define CSC_DATA_READ_SAMPLE_READER_H

#include "data/read/augment.h"
#include "data/read/block_cache.h"
#include "data/read/dataset_internal.h"
#include "data/read/loader_stats.h"

/* What all workers of a loader share; constant but for the cache. */
struct sample_reader {
    const struct dataset *dataset;
    struct augmenter augmenter;
    struct block_cache cache;
    const int32_t *label_map;
    bool skip_bad, scaled_jpeg;
};

/* What one worker keeps; zero-initialised but for block_index = -1. */
struct sample_scratch {
    struct block_reader block_reader;
    struct augment_scratch augment;
    struct block block;  /* the block it read last, if the cache did not take it */
    int64_t block_index; /* its number, or -1 */
    double read_s;       /* per block, smoothed: whether storage is slow enough to be asked in advance */
    struct loader_work work;
};

/* Asks storage for a sample that will be wanted, unless reads come from memory anyway. */
void sample_reader_prefetch(const struct sample_reader *reader, const struct sample_scratch *scratch, uint64_t id);
void sample_scratch_finish(struct sample_scratch *scratch);

enum { LABEL_MISSING = -1 };

/* Sample *id to out (S,S,3) and *label. One that is damaged and may be skipped: in training the next good one, and *id
 * is then the sample that was taken; in an evaluation *label is LABEL_MISSING. STATUS_DATA, STATUS_IO, STATUS_NOMEM. */
enum status sample_reader_read(struct sample_reader *reader, struct sample_scratch *scratch, int64_t epoch,
                               uint64_t *id, void *out, int32_t *label);

#endif
