/* shard_writer.h - a shard being written: create or take up again, add blocks, commit.
 * Until the commit it lies under `path`.tmp, where it stays if writing ends early. */
#ifndef CSC_DATA_WRITE_SHARD_WRITER_H
#define CSC_DATA_WRITE_SHARD_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/format.h"

struct shard_writer {
    char *path, *temporary;
    int fd;
    enum codec codec;
    uint64_t offset; /* bytes so far */
    uint64_t samples;
    uint32_t blocks, capacity;
    uint8_t *table; /* (blocks, SHARD_ENTRY_BYTES) */
    uint64_t hash;  /* valid after commit */
};

/* A frame of `samples` samples that decodes to raw_bytes; hash: XXH64 of its bytes. */
struct shard_frame {
    uint32_t bytes, raw_bytes, samples;
    uint64_t hash;
};

/* A new shard. */
enum status shard_writer_init(struct shard_writer *writer, const char *path, enum codec codec);
/* One that an earlier process began or even committed; *found: whether there is any. Without blocks yet: */
enum status shard_writer_reopen(struct shard_writer *writer, const char *path, enum codec codec, bool *found);
/* Takes the next frame as it lies in the file; *good: whether it is the one described. */
enum status shard_writer_recover(struct shard_writer *writer, const struct shard_frame *frame, bool *good);

/* Appends a frame. */
enum status shard_writer_add(struct shard_writer *writer, const void *data, const struct shard_frame *frame);
/* What was added is on the disk. */
enum status shard_writer_sync(struct shard_writer *writer);
/* Writes table and header, fsyncs, renames. */
enum status shard_writer_commit(struct shard_writer *writer);
void shard_writer_finish(struct shard_writer *writer);

#endif
