/* hash.h - XXH64, the hash of every format here, as 16 lower-case hex digits where it is text. */
#ifndef CSC_BASE_HASH_H
#define CSC_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

uint64_t hash_bytes(const void *data, size_t bytes);
void hash_text(uint64_t hash, char text[17]);
enum status hash_file(const char *path, uint64_t *hash, uint64_t *bytes);

#endif
