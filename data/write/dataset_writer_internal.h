/* dataset_writer_internal.h - between dataset_writer.c, which writes, and dataset_recover.c, which takes up again. */
#ifndef CSC_DATA_WRITE_DATASET_WRITER_INTERNAL_H
#define CSC_DATA_WRITE_DATASET_WRITER_INTERNAL_H

#include <limits.h>

#include "data/write/dataset_writer.h"

enum { RECORD_BATCH = 1, RECORD_SHARD = 2 };
enum { RECORD_SHARD_BYTES = 32 }; /* bytes u64, samples u64, blocks u32, 0 u32, hash u64 */

#define JOURNAL_NAME "packing.journal"
#define REPORT_NAME  "report.tsv"

/* directory/name; false if it is too long. */
bool dataset_writer_path(const char *directory, const char *name, char path[PATH_MAX]);

/* Counts a batch and its report's lines; its frames are in the shard already. */
enum status dataset_writer_count_batch(struct dataset_writer *writer, const struct pack_batch *batch);
/* Names the next shard of the index: its path. */
enum status dataset_writer_next_shard(struct dataset_writer *writer, char path[PATH_MAX]);
/* Adds the shard that dataset_writer_next_shard named, now whole, to the index. */
void dataset_writer_count_shard(struct dataset_writer *writer, uint64_t bytes, uint64_t samples, uint32_t blocks,
                                uint64_t hash);

/* Replays the journal into the writer, as far as journal and shards agree, and opens both for more.
 * *found: whether there was any work to take up; if not, the folder is as it was. */
enum status dataset_writer_recover(struct dataset_writer *writer, bool *found);

/* Removes index, shards from number `first` on and what killed processes leave; if first is 0, journal and report too.
 */
enum status dataset_writer_remove_files(const char *directory, int first_shard);

#endif
