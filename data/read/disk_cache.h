/* disk_cache.h - keeps copies of blocks on this node's own storage, for datasets on shared storage.
 * DIR/csz-FINGERPRINT/shard-00000.csz is a sparse file with each block at its own offset. A block that is read from
 * there is hashed like any other. Where the file has a hole, or something else after a crash, the block is read from
 * the dataset and written anew. So processes share a cache without communicating, and it never needs repair. */
#ifndef CSC_DATA_READ_DISK_CACHE_H
#define CSC_DATA_READ_DISK_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/index.h"
#include "data/format/shard.h"

struct disk_cache {
    char *folder; /* DIR/csz-FINGERPRINT */
    int lock;     /* a descriptor of the folder, with a shared lock while the cache is in use */
    const struct index *index;
    int shards;
    int *descriptors;        /* (shards); -1 for a shard beyond the budget */
    uint64_t *bytes_before;  /* (shards): the bytes of all shards before each */
    uint64_t budget;         /* bytes: only blocks that end before this many bytes of the shards in order are cached */
    atomic_int storage_full; /* nothing more is written */
    _Atomic(int64_t) hits, misses;
};

/* Makes or joins the cache of a dataset in `directory`. The index must outlive the cache. At most `limit` bytes are
 * used under the directory. Caches of other datasets count, and those that no process uses are removed when space is
 * needed. Errors: STATUS_IO, STATUS_NOMEM. */
enum status disk_cache_open(struct disk_cache **cache, const char *directory, uint64_t limit,
                            const struct index *index);

/* Releases the cache; its files stay. NULL is allowed. */
void disk_cache_close(struct disk_cache *cache);

/* Reads a block of shard number `shard`. Returns false if it is not cached or its hash differs. */
bool disk_cache_get(struct disk_cache *cache, int shard, const struct shard_entry *block, void *out);

/* Writes a block whose hash has been checked, if the budget allows it. A failure only ends the writing. Any thread may
 * call this and disk_cache_get. */
void disk_cache_put(struct disk_cache *cache, int shard, const struct shard_entry *block, const void *data);

#endif
