/* arena.c - adds up sizes, allocates once, carves. */
#include "base/arena.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cgroup.h"
#include "base/integer.h"

#define HUGE_PAGE ((size_t)2 << 20) /* bytes */

void *arena_take(struct arena *arena, size_t bytes)
{
    char *memory = arena->memory ? arena->memory + arena->used : NULL;
    arena->used += round_up(bytes, ARENA_ALIGN);
    assert(!arena->memory || arena->used <= arena->size);
    return memory;
}

enum status arena_allocate(struct arena *arena)
{
    enum status status = STATUS_OK;
    assert(!arena->memory);
    size_t size = arena->used ? arena->used : ARENA_ALIGN;
    size_t left = cgroup_memory("");
    bool large = size >= 2 * HUGE_PAGE;
    if (size > left) /* the allocation would succeed, and the kernel would kill the process later */
        FAIL(STATUS_NOMEM, "cannot allocate %.1f MB: %.1f MB are left of the limit of the control group (container)",
             (double)size / 1e6, (double)left / 1e6);
    void *memory = large ? aligned_alloc(HUGE_PAGE, round_up(size, HUGE_PAGE)) : aligned_alloc(ARENA_ALIGN, size);
    if (!memory)
        FAIL(STATUS_NOMEM, "cannot allocate %.1f MB", (double)size / 1e6);
#ifdef MADV_HUGEPAGE
    if (large) /* large arrays need fewer page table entries; kernels without huge pages refuse, which does no harm */
        madvise(memory, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
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
