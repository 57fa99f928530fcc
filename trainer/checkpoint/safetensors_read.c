/* safetensors_read.c - reads strictly. The header is checked against the file: each tensor has the bytes of its shape
 * and type, the tensors lie one after another, and the last one ends where the file ends. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/integer.h"
#include "trainer/checkpoint/safetensors_internal.h"

enum { MAX_HEADER = 16 << 20, MAX_NAME = 1024, ALIGN = 64 };

struct entry {
    struct safetensor tensor;
    uint64_t begin, end; /* offsets within the data */
};

struct safetensors {
    char *name;   /* for messages */
    json_t *json; /* owns the tensors' names */
    struct entry *entries;
    int count;
    char *data; /* of all tensors, each aligned to ALIGN */
};

static enum status read_exactly(const struct safetensors *file, FILE *stream, void *out, size_t bytes)
{
    if (fread(out, 1, bytes, stream) == bytes)
        return STATUS_OK;
    if (ferror(stream))
        return status_report(STATUS_IO, __FILE__, __LINE__, "%s: %s", file->name, strerror(errno));
    return status_report(STATUS_DATA, __FILE__, __LINE__, "%s: ends early", file->name);
}

/* Reads the header as JSON. *left: the bytes left in the file, before and after. */
static enum status read_header(struct safetensors *file, FILE *stream, uint64_t *left)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    uint64_t bytes;
    json_error_t error;
    if (*left < 8 + 2)
        FAIL(STATUS_DATA, "%s: %llu bytes are too few for a safetensors file", file->name, (unsigned long long)*left);
    TRY(read_exactly(file, stream, &bytes, 8));
    *left -= 8;
    if (bytes < 2 || bytes > *left || bytes > MAX_HEADER)
        FAIL(STATUS_DATA,
             "%s: not a safetensors file, or cut short: a header of %llu bytes in a file of %llu; if it "
             "is a PyTorch file, " SAFETENSORS_ADVICE,
             file->name, (unsigned long long)bytes, (unsigned long long)*left + 8);
    text = malloc(bytes);
    if (!text)
        FAIL(STATUS_NOMEM, "%s: out of memory", file->name);
    TRY(read_exactly(file, stream, text, bytes));
    *left -= bytes;
    file->json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(file->json))
        FAIL(STATUS_DATA, "%s: header is not a JSON object: %s", file->name, error.text);
fail:
    free(text);
    return status;
}

static bool get_size(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* The entry's type if PyTorch writes it but this program does not read it; otherwise NULL. */
static const char *unsupported_type(const json_t *json)
{
    static const char *const types[] = { "F16", "I8", "I16", "U16", "I32", "U32", "U64", "BOOL", "F8_E4M3", "F8_E5M2" };
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    for (size_t i = 0; dtype && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i], dtype) == 0)
            return types[i];
    return NULL;
}

/* Reads type, shape and offsets of an entry. Returns false if one is out of range or they do not fit together. */
static bool parse_entry(const json_t *json, struct entry *entry)
{
    const json_t *shape = json_object_get(json, "shape"), *offsets = json_object_get(json, "data_offsets");
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    struct safetensor *tensor = &entry->tensor;
    if (json_object_size(json) != 3 || !dtype || !json_is_array(shape) || !json_is_array(offsets) ||
        json_array_size(offsets) != 2 || json_array_size(shape) > SAFETENSORS_DIMS)
        return false;
    int type = 0;
    while (type < SAFETENSORS_TYPES && strcmp(safetensors_types[type].name, dtype) != 0)
        type++;
    if (type == SAFETENSORS_TYPES)
        return false;
    tensor->dtype = (enum safetensors_dtype)type;
    tensor->dims = (int)json_array_size(shape);
    uint64_t bytes = safetensors_types[type].bytes, dimension;
    bool empty = false;
    for (int i = 0; i < tensor->dims; i++) {
        if (!get_size(json_array_get(shape, (size_t)i), &dimension))
            return false;
        tensor->shape[i] = (int64_t)dimension;
        empty |= dimension == 0;
        if (!empty && __builtin_mul_overflow(bytes, dimension, &bytes))
            return false;
    }
    return get_size(json_array_get(offsets, 0), &entry->begin) && get_size(json_array_get(offsets, 1), &entry->end) &&
           entry->begin <= entry->end && entry->end - entry->begin == (empty ? 0 : bytes);
}

static enum status check_metadata(const struct safetensors *file, json_t *metadata)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return status_report(STATUS_DATA, __FILE__, __LINE__, "%s: __metadata__ is not an object", file->name);
    json_object_foreach(metadata, key, value) if (!json_is_string(value)) return status_report(
        STATUS_DATA, __FILE__, __LINE__, "%s: __metadata__: '%.64s' is not text", file->name, key);
    return STATUS_OK;
}

static int by_position(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static enum status parse_entries(struct safetensors *file, uint64_t data_bytes)
{
    enum status status = STATUS_OK;
    const char *name;
    json_t *value;
    uint64_t at = 0;
    file->entries = calloc(json_object_size(file->json) + 1, sizeof *file->entries);
    if (!file->entries)
        FAIL(STATUS_NOMEM, "%s: out of memory", file->name);
    json_object_foreach(file->json, name, value)
    {
        struct entry *entry = &file->entries[file->count];
        if (strcmp(name, "__metadata__") == 0) {
            TRY(check_metadata(file, value));
            continue;
        }
        if (unsupported_type(value))
            FAIL(STATUS_DATA, "%s: tensor '%.64s' is %s, F32 is needed; " SAFETENSORS_ADVICE, file->name, name,
                 unsupported_type(value));
        if (!name[0] || strlen(name) > MAX_NAME || !parse_entry(value, entry))
            FAIL(STATUS_DATA, "%s: tensor '%.64s': type, shape and offsets do not agree", file->name, name);
        entry->tensor.name = name;
        file->count++;
    }
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_position);
    for (int i = 0; i < file->count; i++) {
        if (file->entries[i].begin != at || file->entries[i].end > data_bytes)
            FAIL(STATUS_DATA, "%s: tensor '%.64s' is not where the one before it ends, or is beyond the file",
                 file->name, file->entries[i].tensor.name);
        at = file->entries[i].end;
    }
    if (at != data_bytes)
        FAIL(STATUS_DATA, "%s: tensors end at %llu, data at %llu", file->name, (unsigned long long)at,
             (unsigned long long)data_bytes);
fail:
    return status;
}

static enum status read_data(struct safetensors *file, FILE *stream)
{
    enum status status = STATUS_OK;
    size_t size = ALIGN, at = 0;
    for (int i = 0; i < file->count; i++)
        size += round_up(file->entries[i].end - file->entries[i].begin, ALIGN);
    file->data = aligned_alloc(ALIGN, size);
    if (!file->data)
        FAIL(STATUS_NOMEM, "%s: cannot allocate %.1f MB", file->name, (double)size / 1e6);
    for (int i = 0; i < file->count; i++) {
        uint64_t bytes = file->entries[i].end - file->entries[i].begin;
        TRY(read_exactly(file, stream, file->data + at, bytes));
        file->entries[i].tensor.data = file->data + at;
        at += round_up(bytes, ALIGN);
    }
fail:
    return status;
}

enum status safetensors_read(struct safetensors **out, const char *name, FILE *stream, uint64_t bytes)
{
    enum status status = STATUS_OK;
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file || !(file->name = strdup(name)))
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    TRY(read_header(file, stream, &bytes));
    TRY(parse_entries(file, bytes));
    TRY(read_data(file, stream));
    *out = file;
    return status;
fail:
    safetensors_close(file);
    return status;
}

enum status safetensors_open(struct safetensors **out, const char *path)
{
    enum status status = STATUS_OK;
    struct stat info;
    FILE *stream = NULL;
    TRY(file_open_stream(path, &stream, &info));
    TRY(safetensors_read(out, path, stream, (uint64_t)info.st_size));
fail:
    if (stream)
        fclose(stream);
    return status;
}

void safetensors_close(struct safetensors *file)
{
    if (!file)
        return;
    json_decref(file->json);
    free(file->entries);
    free(file->data);
    free(file->name);
    free(file);
}

int safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct safetensor *safetensors_at(const struct safetensors *file, int index)
{
    return &file->entries[index].tensor;
}

const struct safetensor *safetensors_find(const struct safetensors *file, const char *name)
{
    for (int i = 0; i < file->count; i++)
        if (strcmp(file->entries[i].tensor.name, name) == 0)
            return &file->entries[i].tensor;
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->json, "__metadata__"), key));
}

/* "64x3x7x7", or "a scalar" where there are no dimensions. */
static const char *shape_text(int dims, const int64_t *shape, char out[128])
{
    strcpy(out, dims ? "" : "a scalar");
    for (int i = 0; i < dims; i++)
        snprintf(out + strlen(out), 128 - strlen(out), "%s%lld", i ? "x" : "", (long long)shape[i]);
    return out;
}

enum status safetensors_require(const struct safetensor *t, const char *path, const char *name, int dims,
                                const int *shape, float **data)
{
    enum status status = STATUS_OK;
    char found[128], needed[128];
    int64_t wanted[SAFETENSORS_DIMS] = { 0 };
    if (!t)
        FAIL(STATUS_DATA, "%s: has no tensor '%s', which this network needs", path, name);
    bool same = t->dims == dims;
    if (t->dtype != SAFETENSORS_F32)
        FAIL(STATUS_DATA, "%s: tensor '%s' is %s, F32 is needed; " SAFETENSORS_ADVICE, path, name,
             safetensors_type_name(t->dtype));
    for (int i = 0; i < dims; i++) {
        wanted[i] = shape[i];
        same = same && t->shape[i] == shape[i];
    }
    if (!same)
        FAIL(STATUS_DATA, "%s: tensor '%s' is %s, this network's is %s", path, name,
             shape_text(t->dims, t->shape, found), shape_text(dims, wanted, needed));
    TRY(safetensors_check_finite(path, t));
    *data = (float *)t->data;
fail:
    return status;
}

enum status safetensors_check_finite(const char *path, const struct safetensor *t)
{
    enum status status = STATUS_OK;
    const float *data = t->data;
    for (int64_t i = 0, count = safetensors_elements(t); i < count; i++)
        if (!isfinite(data[i]))
            FAIL(STATUS_DATA, "%s: tensor '%s' holds %g (value %lld of %lld): no run can continue from it", path,
                 t->name, (double)data[i], (long long)i + 1, (long long)count);
fail:
    return status;
}
