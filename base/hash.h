/* hash.h - XXH64 (seed 0), the hash in all file formats of this project. As text it has 16 lower-case hex digits. */
#ifndef CSC_BASE_HASH_H
#define CSC_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

uint64_t hash_bytes(const void *data, size_t bytes);
void hash_text(uint64_t hash, char text[17]);

/* Hashes a whole regular file. `bytes`, if not NULL, receives its length. STATUS_IO, STATUS_NOMEM. */
enum status hash_file(const char *path, uint64_t *hash, uint64_t *bytes);

#endif
