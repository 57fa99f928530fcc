/* dataset_writer_internal.h - shared by dataset_writer.c, dataset_recover.c, which continues an interrupted packing,
 * and merge.c. */
#ifndef CSC_DATA_WRITE_DATASET_WRITER_INTERNAL_H
#define CSC_DATA_WRITE_DATASET_WRITER_INTERNAL_H

#include <limits.h>

#include "data/write/dataset_writer.h"

/* Types of the journal's records: a batch (pack_batch_encode), and a shard that is complete. */
enum { RECORD_BATCH = 1, RECORD_SHARD = 2 };
enum { RECORD_SHARD_BYTES = 32 }; /* bytes u64, samples u64, blocks u32, 0 u32, hash u64 */

#define JOURNAL_NAME  "packing.journal"
#define LIMIT_JOURNAL ((size_t)8 << 30) /* bytes */
#define REPORT_NAME   "report.tsv"

/* Sets path to directory/name. Returns false if that is too long. */
bool dataset_writer_path(const char *directory, const char *name, char path[PATH_MAX]);

/* Counts the samples of a batch and adds its lines to the report. Its frames are in the shard already. */
enum status dataset_writer_count_batch(struct dataset_writer *writer, const struct pack_batch *batch);
/* Makes an entry in the index for the next shard and returns the shard's path. */
enum status dataset_writer_next_shard(struct dataset_writer *writer, char path[PATH_MAX]);
/* Completes that entry, once the shard has been written. */
void dataset_writer_count_shard(struct dataset_writer *writer, uint64_t bytes, uint64_t samples, uint32_t blocks,
                                uint64_t hash);

/* Replays the journal into the writer as far as journal and shards agree, and opens both to be continued. *found is
 * false if there is no work to continue; nothing has been changed then. */
enum status dataset_writer_recover(struct dataset_writer *writer, bool *found);

/* Removes the index, all shards from number `first_shard` on, and temporary files of killed processes. If first_shard
 * is 0, it removes journal and report too. */
enum status dataset_writer_remove_files(const char *directory, int first_shard);

#endif
