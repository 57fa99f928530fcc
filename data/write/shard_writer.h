/* shard_writer.h - writes one shard: create or reopen it, add blocks, commit.
 * Until the commit the file is called `path`.tmp. It stays under that name if writing ends early. */
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
    uint64_t offset; /* bytes written so far */
    uint64_t samples;
    uint32_t blocks;
    uint8_t *table;  /* SHARD_HEADER_BYTES for the header, then (blocks, SHARD_ENTRY_BYTES) */
    size_t capacity; /* of the table in bytes */
    uint64_t hash;   /* of header and table; valid after shard_writer_commit */
};

/* A compressed block as it lies in a shard. */
struct shard_frame {
    uint32_t bytes;
    uint32_t raw_bytes; /* decompressed */
    uint32_t samples;
    uint64_t hash; /* XXH64 of the compressed bytes */
};

/* Creates a shard. */
enum status shard_writer_init(struct shard_writer *writer, const char *path, enum codec codec);
/* Reopens a shard that an earlier process began, or even committed, as one without blocks; shard_writer_recover then
 * takes its blocks one by one. *found is false if there is no such file. */
enum status shard_writer_reopen(struct shard_writer *writer, const char *path, enum codec codec, bool *found);
/* Keeps the next frame of a reopened shard if the file holds the one described; *good tells whether it does. */
enum status shard_writer_recover(struct shard_writer *writer, const struct shard_frame *frame, bool *good);

/* Appends a frame. */
enum status shard_writer_add(struct shard_writer *writer, const void *data, const struct shard_frame *frame);
/* Waits until all frames are on the disk. */
enum status shard_writer_sync(struct shard_writer *writer);
/* Writes table and header, syncs the file and renames it to `path`. */
enum status shard_writer_commit(struct shard_writer *writer);
void shard_writer_finish(struct shard_writer *writer);

#endif
