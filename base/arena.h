/* arena.h - one allocation that is carved into many arrays.
 * Planning code runs twice and makes the same calls: first on an arena without memory, which only adds up the sizes,
 * and then, after arena_allocate, on one that has that much memory. */
#ifndef CSC_BASE_ARENA_H
#define CSC_BASE_ARENA_H

#include <stddef.h>

#include "base/status.h"

#define ARENA_ALIGN 64 /* bytes: a cache line, and an AVX-512 register */

struct arena {
    char *memory; /* NULL while sizes are added up */
    size_t size;  /* bytes */
    size_t used;  /* bytes */
};

/* Returns the next `bytes`, aligned to ARENA_ALIGN, or NULL while sizes are added up. Asking for more memory than was
 * added up is a bug. */
void *arena_take(struct arena *arena, size_t bytes);

/* Allocates what was added up, zeroed and touched, and starts again at its beginning. STATUS_NOMEM, also where the
 * limit of the control group (container) would be exceeded. */
enum status arena_allocate(struct arena *arena);

void arena_finish(struct arena *arena); /* may be called twice */

#endif
