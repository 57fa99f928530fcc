/* checkpoint_manifest.c - writes MANIFEST, and checks the files by it.
 *
 *     csc-train checkpoint 1
 *     8f2d6a1c0e4b7735 44766120 model.safetensors       XXH64, bytes and name of the model, the optimizer state (one
 *     ...                                               file, or parts), state.json and config.yaml
 *     1b0c9d8e7f6a5b4c MANIFEST                         XXH64 of all lines before this one */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"
#include "trainer/checkpoint/checkpoint_internal.h"

enum { MAX_MANIFEST = 2048, OTHER_FILES = 3 }; /* OTHER_FILES: the model, state.json and config.yaml */
static const char heading[] = "csc-train checkpoint 1\n";

void checkpoint_part_name(char name[CHECKPOINT_NAME], int index, int parts)
{
    if (parts == 1)
        snprintf(name, CHECKPOINT_NAME, "optimizer.safetensors");
    else
        snprintf(name, CHECKPOINT_NAME, "optimizer-%05d-of-%05d.safetensors", index + 1, parts);
}

/* The name of file i, of parts + OTHER_FILES. */
static void file_name(char name[CHECKPOINT_NAME], int i, int parts)
{
    if (i >= 1 && i <= parts)
        checkpoint_part_name(name, i - 1, parts);
    else
        strcpy(name, i == 0 ? CHECKPOINT_MODEL : i == parts + 1 ? CHECKPOINT_STATE : CHECKPOINT_CONFIG);
}

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
    char path[PATH_MAX], text[MAX_MANIFEST], name[CHECKPOINT_NAME];
    strcpy(text, heading);
    for (int i = 0; i < 1 + OTHER_FILES; i++) {
        struct checkpoint_digest digest;
        file_name(name, i, 1);
        TRY(checkpoint_join(path, folder, name));
        TRY(hash_file(path, &digest.hash, &digest.bytes));
        add_line(text, digest.hash, &digest.bytes, name);
    }
    add_line(text, hash_bytes(text, strlen(text)), NULL, CHECKPOINT_MANIFEST);
    TRY(checkpoint_join(path, folder, CHECKPOINT_MANIFEST));
    TRY(file_write(path, text, strlen(text)));
fail:
    return status;
}

static int count_lines(const char *text)
{
    int lines = 0;
    for (; (text = strchr(text, '\n')); text++)
        lines++;
    return lines;
}

/* Reads the lines and writes them again. If the result differs from the text, it is not a manifest. */
bool checkpoint_parse_manifest(const char *text, struct checkpoint_manifest *out)
{
    char again[MAX_MANIFEST], name[CHECKPOINT_NAME];
    const char *line = text;
    int parts = count_lines(text) - OTHER_FILES - 2; /* without the heading and the manifest's own hash */
    if (parts < 1 || parts > CHECKPOINT_PARTS)
        return false;
    out->parts = parts;
    strcpy(again, heading);
    for (int i = 0; i < parts + OTHER_FILES; i++) {
        unsigned long long hash, bytes;
        line = strchr(line, '\n');
        if (!line || sscanf(++line, "%16llx %19llu ", &hash, &bytes) != 2)
            return false;
        out->files[i] = (struct checkpoint_digest){ .hash = hash, .bytes = bytes };
        file_name(name, i, parts);
        add_line(again, out->files[i].hash, &out->files[i].bytes, name);
    }
    add_line(again, hash_bytes(again, strlen(again)), NULL, CHECKPOINT_MANIFEST);
    return strcmp(again, text) == 0;
}

enum status checkpoint_read_manifest(const char *folder, struct checkpoint_manifest *manifest)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    size_t length;
    TRY(checkpoint_join(path, folder, CHECKPOINT_MANIFEST));
    TRY(file_read(path, MAX_MANIFEST - 1, &text, &length));
    if (strlen(text) != length || !checkpoint_parse_manifest(text, manifest))
        FAIL(STATUS_DATA, "%s: damaged: its own hash or form is wrong", path);
fail:
    free(text);
    return status;
}

static bool is_absent(const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct stat info;
    bool joined = checkpoint_join(path, folder, name) == STATUS_OK;
    return joined && lstat(path, &info) != 0 && errno == ENOENT;
}

bool checkpoint_lacks_file(const char *folder)
{
    struct checkpoint_manifest expected;
    char name[CHECKPOINT_NAME];
    struct status_record record;
    status_save(&record);
    bool lacks = is_absent(folder, CHECKPOINT_MANIFEST);
    bool known = !lacks && checkpoint_read_manifest(folder, &expected) == STATUS_OK;
    for (int i = 0; known && !lacks && i < expected.parts + OTHER_FILES; i++) {
        file_name(name, i, expected.parts);
        lacks = is_absent(folder, name);
    }
    status_restore(&record);
    return lacks;
}

enum status checkpoint_verify(const char *folder)
{
    enum status status = STATUS_OK;
    struct checkpoint_manifest expected;
    char path[PATH_MAX], name[CHECKPOINT_NAME];
    TRY(checkpoint_read_manifest(folder, &expected));
    for (int i = 0; i < expected.parts + OTHER_FILES; i++) {
        uint64_t hash, bytes;
        char is[17], was[17];
        file_name(name, i, expected.parts);
        TRY(checkpoint_join(path, folder, name));
        TRY(hash_file(path, &hash, &bytes));
        hash_text(hash, is);
        hash_text(expected.files[i].hash, was);
        if (bytes != expected.files[i].bytes)
            FAIL(STATUS_DATA, "%s: damaged: %llu bytes, MANIFEST says %llu", path, (unsigned long long)bytes,
                 (unsigned long long)expected.files[i].bytes);
        if (hash != expected.files[i].hash)
            FAIL(STATUS_DATA, "%s: damaged: XXH64 %s, MANIFEST says %s", path, is, was);
    }
fail:
    return status;
}
