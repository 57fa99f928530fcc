/* memory.h - buffers and arrays that grow. */
#ifndef CSC_BASE_MEMORY_H
#define CSC_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Makes *buffer at least `bytes` long. If it grows, its content is lost. Errors: STATUS_NOMEM. */
enum status buffer_grow(uint8_t **buffer, size_t *capacity, size_t bytes);

/* Makes an array of items of `item_bytes` bytes hold at least `count` items, and keeps its content. `array` is the
 * address of the pointer to the array; *capacity counts items. Errors: STATUS_NOMEM; the array stays valid then. */
enum status array_grow(void *array, size_t *capacity, size_t count, size_t item_bytes);

/* Copies `count` strings. Errors: STATUS_NOMEM; *copy is NULL then. */
enum status strings_copy(char ***copy, char *const *strings, int64_t count);

/* Frees `count` strings and their array, which may be NULL. */
void strings_free(char **strings, int64_t count);

#endif
