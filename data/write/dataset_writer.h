/* dataset_writer.h - writes batches of samples into a dataset: shards, a report and, last of all, the index. Without
 * the index the folder is not a dataset yet. A journal lets a later process continue where one was interrupted. */
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

struct dataset_writer_options {
    bool force;        /* replace another dataset, or what another packing began */
    bool keep_journal; /* for a command that writes several datasets: keep it until all are complete */
    bool part;         /* this is a part of a packing, which may have no sample and is merged with others */
    enum codec codec;
    int class_count;
    char *const *class_names;
    const char *made_by;
    uint64_t identity;    /* hash of everything that the result depends on */
    uint64_t shard_bytes; /* size at which a shard is full */
};

struct dataset_writer {
    char *directory;
    int lock; /* descriptor of the folder, locked */
    struct dataset_writer_options options;
    struct index index;
    size_t shard_capacity; /* of index.shards */
    struct shard_writer shard;
    bool shard_open;
    struct journal journal;
    int64_t next_sample; /* the source's first sample that has not been added */
    bool complete;       /* an earlier process has written everything, including the index */
    int64_t skipped, non_images, notes[IMAGE_NOTES];
    uint64_t bytes, raw_bytes; /* of all frames */
    char *report;              /* the text of report.tsv */
    size_t report_bytes, report_capacity;
    double last_sync; /* when, by clock_seconds */
};

/* STATUS_USAGE if `directory` holds a complete dataset and force is false. */
enum status dataset_writer_check_folder(const char *directory, bool force);

bool dataset_writer_has_index(const char *directory);
bool dataset_writer_has_journal(const char *directory);

/* Creates the folder, or continues an interrupted packing of the same identity: writer->next_sample then says how far
 * that came. STATUS_USAGE if the folder holds a dataset, or what another packing began, and options->force is false; or
 * if another process is writing there. */
enum status dataset_writer_init(struct dataset_writer *writer, const char *directory,
                                const struct dataset_writer_options *options);

/* Adds a batch, whose frames lie one after the other in `data`. */
enum status dataset_writer_add(struct dataset_writer *writer, const struct pack_batch *batch, const uint8_t *data);

/* Closes the last shard, writes report and index, and removes the journal. Unless this is a part, it warns of classes
 * without samples, and no sample at all is STATUS_DATA. */
enum status dataset_writer_commit(struct dataset_writer *writer);
void dataset_writer_finish(struct dataset_writer *writer);

/* Removes the journal of a dataset that was written with keep_journal. */
enum status dataset_writer_remove_journal(const char *directory);

#endif
