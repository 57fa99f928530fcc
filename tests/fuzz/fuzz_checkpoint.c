/* fuzz_checkpoint.c - reads any bytes as state.json (if the first byte is even) or MANIFEST (odd) of a checkpoint.
 * Values that are accepted must be in range. A manifest must be accepted only if its last line is the hash of the
 * others. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/checkpoint/checkpoint_internal.h"
#include "trainer/model/classes.h"

static const char state[] =
    "{\"version\":1,\"program\":\"csc-train\",\"step\":390,\"epoch\":1,\"epoch_step\":0,\"seed\":9223372036854775807,"
    "\"ranks\":2,"
    "\"seconds\":1.5,\"top1\":null,\"best_top1\":0.5,\"best_step\":390,\"train\":\"0123456789abcdef\",\"val\":\"\","
    "\"extra\":{\"classes\":[\"ant\",\"bee\",\"cat\"]}}";
static const char lines[] = "csc-train checkpoint 1\n"
                            "0123456789abcdef 12 model.safetensors\nfedcba9876543210 0 optimizer.safetensors\n"
                            "0000000000000000 9999999999999999999 state.json\nef46db3751d8e999 1 config.yaml\n";
static const char part_lines[] =
    "csc-train checkpoint 1\n"
    "0123456789abcdef 12 model.safetensors\nfedcba9876543210 0 optimizer-00001-of-00002.safetensors\n"
    "0123456789abcdef 7 optimizer-00002-of-00002.safetensors\n"
    "0000000000000000 9999999999999999999 state.json\nef46db3751d8e999 1 config.yaml\n";

/* Appends the hash of the lines as the last line. */
static const char *manifest(bool in_parts)
{
    static char text[2][1024];
    const char *before = in_parts ? part_lines : lines;
    char digits[17];
    hash_text(hash_bytes(before, strlen(before)), digits);
    snprintf(text[in_parts], sizeof text[0], "%s%s MANIFEST\n", before, digits);
    return text[in_parts];
}

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    const char *const seeds[] = { state, manifest(false), "{}", manifest(true), "", "csc-train checkpoint 1\n" };
    if (index >= 6 || strlen(seeds[index]) >= capacity)
        return 0;
    out[0] = (unsigned char)(index % 2);
    memcpy(out + 1, seeds[index], strlen(seeds[index]));
    return strlen(seeds[index]) + 1;
}

static void fuzz_manifest(const char *text)
{
    struct checkpoint_manifest read;
    char digits[17];
    if (!checkpoint_parse_manifest(text, &read)) {
        if (strcmp(text, manifest(false)) == 0 || strcmp(text, manifest(true)) == 0)
            abort();
        return;
    }
    if (read.parts < 1 || read.parts > CHECKPOINT_PARTS)
        abort();
    const char *last = strstr(text, "config.yaml\n") + 12;
    hash_text(hash_bytes(text, (size_t)(last - text)), digits);
    if (strncmp(last, digits, 16) != 0 || strcmp(last + 16, " MANIFEST\n") != 0)
        abort();
}

/* Class names that are accepted must be texts, and indices mapped to them must be in range. */
static void fuzz_classes(const json_t *extra)
{
    enum { MOST = 3 };
    char *const names[] = { "bee", "ant" };
    const json_t *network;
    int32_t *map = NULL;
    if (classes_read(extra, MOST, "fuzz", &network) == STATUS_OK && network &&
        classes_map(network, names, 2, "fuzz", false, &map) == STATUS_OK && map)
        for (int i = 0; i < 2; i++)
            if (map[i] < 0 || map[i] >= MOST ||
                strcmp(json_string_value(json_array_get(network, (size_t)map[i])), names[i]) != 0)
                abort();
    free(map);
    status_clear();
}

static void fuzz_state(const char *text, size_t bytes)
{
    struct checkpoint_state read;
    enum status status = checkpoint_parse_state("fuzz", text, bytes, &read);
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (status == STATUS_OK && (read.step < 0 || read.step > CHECKPOINT_LAST_STEP || read.ranks < 1 || !read.extra ||
                                strlen(read.train) > 16 || strlen(read.val) > 16))
        abort();
    if (status == STATUS_OK)
        fuzz_classes(read.extra);
    json_decref(read.extra);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (!size)
        return 0;
    char *text = malloc(size);
    if (!text)
        abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (data[0] % 2)
        fuzz_manifest(text);
    else
        fuzz_state(text, size - 1);
    free(text);
    return 0;
}
