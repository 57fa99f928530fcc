/* memory.c - allocates buffers as large as they must be, and arrays with room for as many items again. */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum status buffer_grow(uint8_t **buffer, size_t *capacity, size_t bytes)
{
    enum status status = STATUS_OK;
    if (bytes <= *capacity && *buffer)
        return STATUS_OK;
    free(*buffer);
    *capacity = 0;
    *buffer = malloc(bytes ? bytes : 1);
    if (!*buffer)
        FAIL(STATUS_NOMEM, "cannot allocate %.1f MB", (double)bytes / 1e6);
    *capacity = bytes;
fail:
    return status;
}

enum status array_grow(void *array, size_t *capacity, size_t count, size_t item_bytes)
{
    enum status status = STATUS_OK;
    void *items;
    if (count <= *capacity)
        return STATUS_OK;
    size_t wanted = count < 2 * *capacity ? 2 * *capacity : count < 16 ? 16 : count;
    memcpy(&items, array, sizeof items);
    items = realloc(items, wanted * item_bytes);
    if (!items)
        FAIL(STATUS_NOMEM, "cannot allocate %.1f MB", (double)wanted * (double)item_bytes / 1e6);
    memcpy(array, &items, sizeof items);
    *capacity = wanted;
fail:
    return status;
}

enum status strings_copy(char ***copy, char *const *strings, int64_t count)
{
    enum status status = STATUS_OK;
    *copy = calloc((size_t)count + 1, sizeof **copy);
    for (int64_t i = 0; i < count && *copy; i++) {
        (*copy)[i] = strdup(strings[i]);
        if (!(*copy)[i]) {
            strings_free(*copy, i);
            *copy = NULL;
        }
    }
    if (!*copy)
        FAIL(STATUS_NOMEM, "out of memory for %lld strings", (long long)count);
fail:
    return status;
}

void strings_free(char **strings, int64_t count)
{
    for (int64_t i = 0; strings && i < count; i++)
        free(strings[i]);
    free(strings);
}
