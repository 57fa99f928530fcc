/* hash.c - XXH64 through libxxhash. */
#include "base/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"

uint64_t hash_bytes(const void *data, size_t bytes)
{
    return XXH64(data, bytes, 0);
}

void hash_text(uint64_t hash, char text[17])
{
    snprintf(text, 17, "%016llx", (unsigned long long)hash);
}

enum status hash_file(const char *path, uint64_t *hash, uint64_t *bytes)
{
    enum status status = STATUS_OK;
    enum { CHUNK = 1 << 20 };
    XXH64_state_t *state = XXH64_createState();
    char *chunk = malloc(CHUNK);
    FILE *file = NULL;
    uint64_t total = 0;
    if (!state || !chunk)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    TRY(file_open_stream(path, &file, NULL));
    XXH64_reset(state, 0);
    for (size_t got; (got = fread(chunk, 1, CHUNK, file)) > 0; total += got)
        XXH64_update(state, chunk, got);
    if (ferror(file))
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    *hash = XXH64_digest(state);
    if (bytes)
        *bytes = total;
fail:
    if (file)
        fclose(file);
    free(chunk);
    XXH64_freeState(state);
    return status;
}
