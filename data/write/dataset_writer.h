/* dataset_writer.h - a dataset being written: batches of samples in; shards, a report and at last the index out.
 * Until the index is there, the folder is not a dataset.  A journal lets a later process go on where one stopped. */
#ifndef CSC_DATA_WRITE_DATASET_WRITER_H
#define CSC_DATA_WRITE_DATASET_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/index.h"
#include "data/write/journal.h"
#include "data/image/image_notes.h"
#include "data/write/pack_batch.h"
#include "data/write/shard_writer.h"

/* What is to be written. */
struct dataset_writer_options {
    bool force;        /* replace another dataset, or what is left of another packing */
    bool keep_journal; /* for a command that writes several datasets, until all are whole */
    bool part;         /* of a packing: may have no sample, to be merged with others that have */
    enum codec codec;
    int class_count;
    char *const *class_names;
    const char *made_by;
    uint64_t identity;    /* the same input and options, the same identity */
    uint64_t shard_bytes; /* a shard is full when it has them */
};

struct dataset_writer {
    char *directory;
    int lock; /* descriptor of the folder, locked */
    struct dataset_writer_options options;
    struct index index;
    struct shard_writer shard;
    bool shard_open;
    struct journal journal;
    int64_t next_sample; /* samples of the input that are in */
    bool complete;       /* an earlier process had written all of it, index included */
    int64_t skipped, non_images, notes[IMAGE_NOTES];
    uint64_t bytes, raw_bytes; /* of all frames */
    char *report;              /* text of report.tsv: samples that were converted or left out */
    size_t report_bytes, report_capacity;
    int64_t last_sync; /* when, in seconds */
};

/* STATUS_USAGE if `directory` holds a dataset and force is false. */
enum status dataset_writer_check_folder(const char *directory, bool force);

bool dataset_writer_has_index(const char *directory);
bool dataset_writer_has_journal(const char *directory);

/* Makes the folder and takes up what an interrupted packing of the same identity left: writer->next_sample says how far
 * it came. STATUS_USAGE if the folder holds a dataset, or another packing's beginning, and options->force is false. */
enum status dataset_writer_init(struct dataset_writer *writer, const char *directory,
                                const struct dataset_writer_options *options);

/* Appends a batch, whose frames lie one after the other in `data`. */
enum status dataset_writer_add(struct dataset_writer *writer, const struct pack_batch *batch, const uint8_t *data);

/* Closes the last shard, writes report and index, removes the journal. STATUS_DATA if there is no sample, except in a
 * part. Warns of classes without samples, except in a part. */
enum status dataset_writer_commit(struct dataset_writer *writer);
void dataset_writer_finish(struct dataset_writer *writer);

/* Removes the journal of a dataset that was written with keep_journal. */
enum status dataset_writer_remove_journal(const char *directory);

#endif
