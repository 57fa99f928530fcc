/* disk_cache.h - copies of a dataset's blocks on this node's own storage, for datasets that lie on a shared one.
 * DIR/csz-FINGERPRINT/shard-00000.csz are sparse files, each block at its own offset. A block read from there is hashed
 * like any other; where there is a hole, or a crash left something else, it is read from the dataset and written anew.
 * So ranks share a cache without talking to each other, and it needs no repair. */
#ifndef CSC_DATA_READ_DISK_CACHE_H
#define CSC_DATA_READ_DISK_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/index.h"

struct disk_cache {
    char *folder; /* DIR/csz-FINGERPRINT */
    int lock;     /* descriptor of the folder, locked shared while it is in use */
    const struct index *index;
    int *descriptors; /* (shards) descriptors; -1: beyond the budget */
    int shards;
    uint64_t budget;         /* bytes: blocks that end beyond, counted over the shards in order, are not kept */
    uint64_t *bytes_before;  /* (shards): bytes of the shards before each */
    atomic_int storage_full; /* storage had no room: nothing more is written */
    _Atomic(int64_t) hits, misses;
};

/* Makes or joins the cache of the dataset, whose index must outlive it, in `directory`. At most `limit` bytes are used
 * under the directory; caches of other datasets count, and those that nobody uses make room. STATUS_IO, STATUS_NOMEM.
 */
enum status disk_cache_open(struct disk_cache *cache, const char *directory, uint64_t limit, const struct index *index);
void disk_cache_close(struct disk_cache *cache); /* zeros are fine; the files stay */

/* The block of `bytes` bytes at an offset of a shard: true if it is there and its hash is right. */
bool disk_cache_get(struct disk_cache *cache, int shard, uint64_t offset, uint32_t bytes, uint64_t hash, void *out);

/* Keeps a block that was read and verified, if the limit allows it. */
void disk_cache_put(struct disk_cache *cache, int shard, uint64_t offset, uint32_t bytes, const void *data);

#endif
