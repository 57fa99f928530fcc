/* dataset_writer.h - a dataset being written: blocks in, shards and at last the index out.
 * Until the index is there, the folder is not a dataset. */
#ifndef CSC_DATA_DATASET_WRITER_H
#define CSC_DATA_DATASET_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/index.h"
#include "data/shard.h"

struct dataset_writer {
    char *directory;
    int lock; /* descriptor of the folder, locked */
    struct index index;
    struct shard_writer shard;
    bool shard_open;
};

/* STATUS_USAGE if `directory` holds a dataset and force is false. */
enum status dataset_writer_check(const char *directory, bool force);

/* Makes the folder and removes an interrupted or, with force, an older dataset. Names are copied. */
enum status dataset_writer_init(struct dataset_writer *writer, const char *directory, bool force,
                                enum codec codec, int classes, char *const *names, const char *made_by);

/* Counts a sample that the next block holds. */
void dataset_writer_count(struct dataset_writer *writer, int label, int width, int height);

/* Appends a compressed block. */
enum status dataset_writer_add(struct dataset_writer *writer, const void *frame, uint32_t bytes, uint32_t raw_bytes,
                               uint32_t samples);

/* Closes the last shard and writes the index. STATUS_DATA if there is no sample. */
enum status dataset_writer_commit(struct dataset_writer *writer);
void dataset_writer_finish(struct dataset_writer *writer);

#endif
