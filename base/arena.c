/* arena.c - measure, allocate once, carve. */
#include "base/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void *arena_take(struct arena *arena, size_t bytes)
{
    size_t rounded = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    char *memory = arena->memory ? arena->memory + arena->used : NULL;
    arena->used += rounded;
    assert(!arena->memory || arena->used <= arena->size);
    return memory;
}

enum status arena_allocate(struct arena *arena)
{
    enum status status = STATUS_OK;
    assert(!arena->memory);
    size_t size = arena->used ? arena->used : ARENA_ALIGN;
    void *memory = aligned_alloc(ARENA_ALIGN, size);
    if (!memory)
        FAIL(STATUS_NOMEM, "cannot allocate %.1f MB", (double)size / 1e6);
    memset(memory, 0, size);
    *arena = (struct arena){ .memory = memory, .size = size };
fail:
    return status;
}

void arena_finish(struct arena *arena)
{
    free(arena->memory);
    *arena = (struct arena){ 0 };
}
