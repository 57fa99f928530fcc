/* golden_file.h - reads tensors of a safetensors file as doubles, in our memory order.
 * u64 length of the header, JSON header, data; images (N,C,H,W) become (N,H,W,C), weights (D,C,k,k) become
 * (D,k,k,C). */
#ifndef CSC_TESTS_LAYERS_GOLDEN_FILE_H
#define CSC_TESTS_LAYERS_GOLDEN_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct golden_file {
    char *bytes;
    const char *data;
    json_t *header, *cases;
};

static inline void golden_fail(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    exit(1);
}

/* False if there is no such file; any other trouble ends the program. */
static inline bool golden_open(struct golden_file *g, const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t length;
    if (!file)
        return false;
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    g->bytes = malloc(size);
    if (fread(g->bytes, 1, size, file) != size || size < 8)
        golden_fail(path, "cannot be read");
    fclose(file);
    memcpy(&length, g->bytes, 8);
    if (length > size - 8)
        golden_fail(path, "is cut off");
    g->data = g->bytes + 8 + length;
    g->header = json_loadb(g->bytes + 8, length, 0, NULL);
    const char *cases = json_string_value(json_object_get(json_object_get(g->header, "__metadata__"), "cases"));
    g->cases = cases ? json_loads(cases, 0, NULL) : NULL;
    if (!json_is_array(g->cases))
        golden_fail(path, "has no table of cases");
    return true;
}

static inline void golden_close(struct golden_file *g)
{
    json_decref(g->cases);
    json_decref(g->header);
    free(g->bytes);
}

/* Tensor "name.part" and its dimensions, NULL if there is none; the caller frees it. */
static inline double *golden_tensor(const struct golden_file *g, const char *name, const char *part, int dims[4])
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", name, part);
    const json_t *entry = json_object_get(g->header, key);
    if (!entry)
        return NULL;
    const char *from = g->data + json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
    bool wide = !strcmp(json_string_value(json_object_get(entry, "dtype")), "F64");
    size_t count = 1;
    for (int i = 0; i < 4; i++) {
        dims[i] = (int)json_integer_value(json_array_get(json_object_get(entry, "shape"), i));
        count *= dims[i];
    }
    double *out = malloc(count * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        size_t hw = (size_t)dims[2] * dims[3], n = i / dims[1] / hw, c = i / hw % dims[1];
        float narrow = 0;
        double *to = &out[(n * hw + i % hw) * dims[1] + c];
        if (wide)
            memcpy(to, from + i * sizeof *to, sizeof *to);
        else {
            memcpy(&narrow, from + i * sizeof narrow, sizeof narrow);
            *to = narrow;
        }
    }
    return out;
}

#endif
