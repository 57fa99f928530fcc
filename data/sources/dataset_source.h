/* dataset_source.h - the samples of a dataset as a source, to measure packing on them. */
#ifndef CSC_DATA_SOURCES_DATASET_SOURCE_H
#define CSC_DATA_SOURCES_DATASET_SOURCE_H

#include "data/format/block.h"
#include "data/read/dataset.h"
#include "data/write/pack.h"

struct dataset_source {
    struct pack_source source; /* first: sources are cast back */
    const struct dataset *dataset;
    struct block_reader reader;
    struct block block;
    int64_t open_block; /* of the open block; -1: none */
};

/* rgbz samples come as pixels, jpeg samples as their files. */
void dataset_source_init(struct dataset_source *source, const struct dataset *dataset);
void dataset_source_finish(struct dataset_source *source);

#endif
