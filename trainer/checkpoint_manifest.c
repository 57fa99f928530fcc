/* checkpoint_manifest.c - MANIFEST and what it vouches for.
 *
 *     csc-train checkpoint 1
 *     8f2d6a1c0e4b7735 44766120 model.safetensors       XXH64, bytes, name; the four files in this order
 *     ...
 *     1b0c9d8e7f6a5b4c MANIFEST                          XXH64 of all lines before this one */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "trainer/checkpoint_files.h"

enum { MAX_MANIFEST = 1024 };
static const char heading[] = "csc-train checkpoint 1\n";

const char *const checkpoint_files[CHECKPOINT_FILES] = {
    CHECKPOINT_MODEL, CHECKPOINT_OPTIMIZER, CHECKPOINT_STATE, CHECKPOINT_CONFIG,
};

enum status checkpoint_join(char path[PATH_MAX], const char *folder, const char *name)
{
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        return status_report(STATUS_IO, __FILE__, __LINE__, "%s/%s: name too long", folder, name);
    return STATUS_OK;
}

static void add_line(char *text, uint64_t hash, const uint64_t *bytes, const char *name)
{
    char digits[17], size[24] = "";
    hash_text(hash, digits);
    if (bytes)
        snprintf(size, sizeof size, "%llu ", (unsigned long long)*bytes);
    size_t length = strlen(text);
    snprintf(text + length, MAX_MANIFEST - length, "%s %s%s\n", digits, size, name);
}

enum status checkpoint_write_manifest(const char *folder)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], text[MAX_MANIFEST];
    strcpy(text, heading);
    for (int i = 0; i < CHECKPOINT_FILES; i++) {
        uint64_t hash, bytes;
        TRY(checkpoint_join(path, folder, checkpoint_files[i]));
        TRY(hash_file(path, &hash, &bytes));
        add_line(text, hash, &bytes, checkpoint_files[i]);
    }
    add_line(text, hash_bytes(text, strlen(text)), NULL, CHECKPOINT_MANIFEST);
    TRY(checkpoint_join(path, folder, CHECKPOINT_MANIFEST));
    TRY(file_write(path, text, strlen(text)));
fail:
    return status;
}

/* Reads the four lines and writes them again: a manifest that differs from its own reading is not one. */
bool checkpoint_parse_manifest(const char *text, struct checkpoint_expected out[CHECKPOINT_FILES])
{
    char again[MAX_MANIFEST];
    const char *line = text;
    strcpy(again, heading);
    for (int i = 0; i < CHECKPOINT_FILES; i++) {
        unsigned long long hash, bytes;
        line = strchr(line, '\n');
        if (!line || sscanf(++line, "%16llx %19llu ", &hash, &bytes) != 2)
            return false;
        out[i] = (struct checkpoint_expected){ .hash = hash, .bytes = bytes };
        add_line(again, out[i].hash, &out[i].bytes, checkpoint_files[i]);
    }
    add_line(again, hash_bytes(again, strlen(again)), NULL, CHECKPOINT_MANIFEST);
    return strcmp(again, text) == 0;
}

enum status checkpoint_verify(const char *folder)
{
    enum status status = STATUS_OK;
    struct checkpoint_expected expected[CHECKPOINT_FILES];
    char path[PATH_MAX], *text = NULL;
    size_t length;
    TRY(checkpoint_join(path, folder, CHECKPOINT_MANIFEST));
    TRY(file_read(path, MAX_MANIFEST - 1, &text, &length));
    if (strlen(text) != length || !checkpoint_parse_manifest(text, expected))
        FAIL(STATUS_DATA, "%s: damaged: its own hash or form is wrong", path);
    for (int i = 0; i < CHECKPOINT_FILES; i++) {
        uint64_t hash, bytes;
        char is[17], was[17];
        TRY(checkpoint_join(path, folder, checkpoint_files[i]));
        TRY(hash_file(path, &hash, &bytes));
        hash_text(hash, is);
        hash_text(expected[i].hash, was);
        if (bytes != expected[i].bytes)
            FAIL(STATUS_DATA, "%s: damaged: %llu bytes, MANIFEST says %llu", path, (unsigned long long)bytes,
                 (unsigned long long)expected[i].bytes);
        if (hash != expected[i].hash)
            FAIL(STATUS_DATA, "%s: damaged: XXH64 %s, MANIFEST says %s", path, is, was);
    }
fail:
    free(text);
    return status;
}
