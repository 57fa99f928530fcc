/* dataset_source.h - the samples of a dataset as a source, to measure packing with them. */
#ifndef CSC_DATA_SOURCES_DATASET_SOURCE_H
#define CSC_DATA_SOURCES_DATASET_SOURCE_H

#include "data/format/block.h"
#include "data/read/dataset.h"
#include "data/write/pack_source.h"

struct dataset_source {
    struct pack_source source; /* must be first: pointers to it are cast to the dataset_source */
    const struct dataset *dataset;
    struct block_reader reader;
    struct block block;
    int64_t open_block; /* number of the block in `block`, in the dataset; -1: none */
};

/* Samples of an rgbz dataset come as pixels, samples of a jpeg dataset as files. */
void dataset_source_init(struct dataset_source *source, const struct dataset *dataset);
void dataset_source_finish(struct dataset_source *source);

#endif
