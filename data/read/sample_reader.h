/* sample_reader.h - makes single samples of a batch: locates, reads, decodes and augments them. */
#ifndef CSC_DATA_READ_SAMPLE_READER_H
#define CSC_DATA_READ_SAMPLE_READER_H

#include "data/read/augment.h"
#include "data/read/block_cache.h"
#include "data/read/dataset_internal.h"
#include "data/read/loader_stats.h"

/* What all workers of a loader share. Only the cache changes. */
struct sample_reader {
    const struct dataset *dataset;
    struct augmenter augmenter;
    struct block_cache cache;
    const int32_t *label_map; /* as in struct loader_config, as are the next two */
    bool skip_bad, scaled_jpeg;
};

/* What belongs to one worker. Zero-initialise it but for block_index = -1. */
struct sample_scratch {
    struct block_reader block_reader;
    struct augment_scratch augment;
    struct block block;  /* the last block that was read, unless the cache accepted it */
    int64_t block_index; /* of that block in the dataset; -1: none */
    double read_s;       /* smoothed seconds for reading a block; decides whether to prefetch */
    struct loader_work work;
};
void sample_scratch_finish(struct sample_scratch *scratch);

/* Asks storage to read ahead the block of a sample that will be needed, unless reads come from memory anyway. */
void sample_reader_prefetch(const struct sample_reader *reader, const struct sample_scratch *scratch, uint64_t id);

enum { LABEL_MISSING = -1 };

/* Makes sample *id: writes its image to `out`, (S,S,3), and its label to *label. If the sample is damaged and skip_bad
 * is set, training takes the next good one, whose index is then in *id, and evaluation sets *label to LABEL_MISSING.
 * Errors: STATUS_DATA, STATUS_IO, STATUS_NOMEM. */
enum status sample_reader_read(struct sample_reader *reader, struct sample_scratch *scratch, int64_t epoch,
                               uint64_t *id, void *out, int32_t *label);

#endif
