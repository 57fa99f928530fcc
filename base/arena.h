/* arena.h - one allocation, carved.
 * Planning code runs twice over the same calls: first on an arena without memory, which only
 * adds up and hands out NULL, then on one that holds that many bytes. */
#ifndef CSC_BASE_ARENA_H
#define CSC_BASE_ARENA_H

#include <stddef.h>

#include "base/status.h"

#define ARENA_ALIGN 64 /* bytes: a cache line, an AVX-512 register */

struct arena {
    char *memory; /* NULL while measuring */
    size_t size;  /* bytes */
    size_t used;
};

/* The next `bytes`, aligned to ARENA_ALIGN; NULL while measuring. More than was measured is a bug. */
void *arena_take(struct arena *arena, size_t bytes);

/* Gives a measured arena its memory, zeroed and touched, and starts carving. STATUS_NOMEM. */
enum status arena_allocate(struct arena *arena);

void arena_finish(struct arena *arena);

#endif
