/* index.c - parses and prints index.json. The parser is strict: every member is required, others are refused, and sums
 * must agree. The file ends in `"hash": "0123456789abcdef"\n}\n`. The hash is the XXH64 of all bytes before its digits,
 * and the bytes after them are compared, so every byte is checked. */
#include "data/format/index.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "data/format/names.h"

static const char hash_key[] = ",\n \"hash\": \"";
static const char ending[] = "\"\n}\n";
enum { HASH_DIGITS = 16, TAIL = HASH_DIGITS + sizeof ending - 1 };

const char *codec_name(enum codec codec)
{
    return codec == CODEC_RGBZ ? "rgbz" : "jpeg";
}

bool codec_parse(const char *name, enum codec *codec)
{
    *codec = strcmp(name, "jpeg") == 0 ? CODEC_JPEG : CODEC_RGBZ;
    return strcmp(name, codec_name(*codec)) == 0;
}

static enum status check_hash(struct index *index, const char *text, size_t bytes, const char *name)
{
    enum status status = STATUS_OK;
    size_t key = sizeof hash_key - 1;
    if (bytes < TAIL + key || memcmp(text + bytes - (sizeof ending - 1), ending, sizeof ending - 1) != 0 ||
        memcmp(text + bytes - TAIL - key, hash_key, key) != 0)
        FAIL(STATUS_DATA, "%s: does not end in its hash: truncated or damaged", name);
    hash_text(hash_bytes(text, bytes - TAIL), index->hash);
    if (memcmp(index->hash, text + bytes - TAIL, HASH_DIGITS) != 0)
        FAIL(STATUS_DATA, "%s: damaged: expected hash %.16s, found %s", name, text + bytes - TAIL, index->hash);
fail:
    return status;
}

/* Reads an integer member, which must be within [low, high]. */
static enum status get_integer(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *value,
                               const char *name)
{
    enum status status = STATUS_OK;
    const json_t *member = json_object_get(object, key);
    if (!json_is_integer(member))
        FAIL(STATUS_DATA, "%s: %s: missing, or not an integer", name, key);
    *value = json_integer_value(member);
    if (*value < low || *value > high)
        FAIL(STATUS_DATA, "%s: %s: %lld is not between %lld and %lld", name, key, (long long)*value, (long long)low,
             (long long)high);
fail:
    return status;
}

static enum status get_text(const json_t *object, const char *key, const char **value, const char *name)
{
    enum status status = STATUS_OK;
    *value = json_string_value(json_object_get(object, key));
    if (!*value)
        FAIL(STATUS_DATA, "%s: %s: missing, or not text", name, key);
fail:
    return status;
}

static enum status parse_shard(struct index_shard *shard, const json_t *object, const char *previous, const char *name)
{
    enum status status = STATUS_OK;
    const char *text, *hash;
    int64_t bytes = 0, samples = 0, blocks = 0;
    if (json_object_size(object) != 5)
        FAIL(STATUS_DATA, "%s: shards: each needs exactly name, bytes, samples, blocks, hash", name);
    TRY(get_text(object, "name", &text, name));
    if (!shard_name_ok(text) || (previous && strcmp(previous, text) >= 0))
        FAIL(STATUS_DATA, "%s: shards: '%.32s' is not a shard's name, or not in order", name, text);
    strcpy(shard->name, text);
    TRY(get_integer(object, "bytes", SHARD_HEADER_BYTES, INT64_MAX, &bytes, name));
    TRY(get_integer(object, "samples", 1, LIMIT_SHARD_SAMPLES, &samples, name));
    TRY(get_integer(object, "blocks", 1, samples, &blocks, name));
    TRY(get_text(object, "hash", &hash, name));
    if (strlen(hash) != HASH_DIGITS || strspn(hash, "0123456789abcdef") != HASH_DIGITS)
        FAIL(STATUS_DATA, "%s: %s: its hash is not 16 lower-case hex digits", name, text);
    shard->bytes = (uint64_t)bytes;
    shard->samples = (uint64_t)samples;
    shard->blocks = (uint32_t)blocks;
    shard->hash = strtoull(hash, NULL, 16);
fail:
    return status;
}

static enum status parse_shards(struct index *index, const json_t *array, const char *name)
{
    enum status status = STATUS_OK;
    int64_t sum = 0;
    size_t count = json_array_size(array);
    if (!json_is_array(array) || !count != !index->samples || count > 100000)
        FAIL(STATUS_DATA, "%s: shards: missing, empty or too many", name);
    index->shards = calloc(count + 1, sizeof *index->shards);
    if (!index->shards)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    index->shard_count = (int)count;
    for (int i = 0; i < index->shard_count; i++) {
        const char *previous = i ? index->shards[i - 1].name : NULL;
        TRY(parse_shard(&index->shards[i], json_array_get(array, (size_t)i), previous, name));
        sum += (int64_t)index->shards[i].samples;
    }
    if (sum != index->samples)
        FAIL(STATUS_DATA, "%s: its shards hold %lld samples, but it says %lld", name, (long long)sum,
             (long long)index->samples);
fail:
    return status;
}

static enum status parse_classes(struct index *index, const json_t *names, const json_t *counts, const char *name)
{
    enum status status = STATUS_OK;
    size_t count = json_array_size(names);
    int64_t sum = 0;
    if (!count || count > LIMIT_CLASSES || json_array_size(counts) != count)
        FAIL(STATUS_DATA, "%s: classes and counts: missing, empty, too many, or not equally many", name);
    index->class_names = calloc(count, sizeof *index->class_names);
    index->counts = calloc(count, sizeof *index->counts);
    if (!index->class_names || !index->counts)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    index->class_count = (int)count;
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(names, i));
        const json_t *class_size = json_array_get(counts, i);
        if (!text || !class_name_ok(text))
            FAIL(STATUS_DATA, "%s: the name of class %zu is missing, too long or not plain text", name, i);
        if (!json_is_integer(class_size) || json_integer_value(class_size) < 0 ||
            json_integer_value(class_size) > index->samples - sum)
            FAIL(STATUS_DATA, "%s: the count of class %zu is impossible", name, i);
        index->class_names[i] = strdup(text);
        if (!index->class_names[i])
            FAIL(STATUS_NOMEM, "%s: out of memory", name);
        index->counts[i] = json_integer_value(class_size);
        sum += index->counts[i];
    }
    if (sum != index->samples)
        FAIL(STATUS_DATA, "%s: its classes have %lld samples, but it says %lld", name, (long long)sum,
             (long long)index->samples);
fail:
    return status;
}

static enum status parse_fields(struct index *index, const json_t *object, const char *name)
{
    enum status status = STATUS_OK;
    const char *text;
    int64_t value = 0, width = 0, height = 0;
    if (json_object_size(object) != 11)
        FAIL(STATUS_DATA, "%s: not the index of a dataset: %zu fields instead of 11", name, json_object_size(object));
    TRY(get_text(object, "format", &text, name));
    if (strcmp(text, "csz") != 0)
        FAIL(STATUS_DATA, "%s: format '%.32s', not csz", name, text);
    TRY(get_integer(object, "version", 1, INT32_MAX, &value, name));
    if (value != FORMAT_VERSION)
        FAIL(STATUS_DATA, "%s: format version %lld; this program reads %d", name, (long long)value, FORMAT_VERSION);
    TRY(get_text(object, "codec", &text, name));
    if (!codec_parse(text, &index->codec))
        FAIL(STATUS_DATA, "%s: unknown codec '%.32s'", name, text);
    TRY(get_text(object, "made_by", &text, name));
    index->made_by = strdup(text);
    if (!index->made_by)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    TRY(get_integer(object, "samples", 0, (int64_t)1 << 40, &index->samples, name)); /* 0 in a part of a packing */
    TRY(get_integer(object, "width", 0, LIMIT_SIDE, &width, name));
    TRY(get_integer(object, "height", width != 0, width ? LIMIT_SIDE : 0, &height, name));
    index->width = (int)width;
    index->height = (int)height;
    TRY(parse_classes(index, json_object_get(object, "classes"), json_object_get(object, "counts"), name));
    TRY(parse_shards(index, json_object_get(object, "shards"), name));
fail:
    return status;
}

enum status index_parse(struct index *index, const char *text, size_t bytes, const char *name)
{
    enum status status = STATUS_OK;
    json_t *object = NULL;
    json_error_t error;
    *index = (struct index){ 0 };
    if (bytes > LIMIT_INDEX_BYTES)
        FAIL(STATUS_DATA, "%s: %zu bytes are too many for an index", name, bytes);
    TRY(check_hash(index, text, bytes, name));
    object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        FAIL(STATUS_DATA, "%s:%d: %s", name, error.line, error.text);
    TRY(parse_fields(index, object, name));
fail:
    json_decref(object);
    if (status != STATUS_OK)
        index_finish(index);
    return status;
}

enum status index_read(struct index *index, const char *directory)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    *index = (struct index){ 0 };
    if (snprintf(path, sizeof path, "%s/train/index.json", directory) >= PATH_MAX - 16)
        FAIL(STATUS_IO, "%s: name too long", directory);
    const char *hint = file_exists(path) ? "; its folders train and val may be datasets" : "";
    snprintf(path, sizeof path, "%s/index.json", directory);
    if (access(path, F_OK) != 0) {
        int reason = errno;
        if (reason == ENOENT && file_is_folder(directory))
            FAIL(STATUS_IO, "%s: no index.json here: not a dataset, or its packing was interrupted%s", directory, hint);
        if (reason == ENOENT || reason == ENOTDIR)
            FAIL(STATUS_IO, "%s: no such dataset (not a folder)", directory);
        FAIL(STATUS_IO, "%s: %s", path, strerror(reason));
    }
    TRY(file_read(path, LIMIT_INDEX_BYTES, &text, &bytes));
    TRY(index_parse(index, text, bytes, path));
fail:
    free(text);
    return status;
}

static json_t *shards_to_json(const struct index *index)
{
    json_t *array = json_array();
    for (int i = 0; i < index->shard_count; i++) {
        const struct index_shard *s = &index->shards[i];
        char hash[17];
        hash_text(s->hash, hash);
        json_array_append_new(array, json_pack("{s:s,s:I,s:I,s:I,s:s}", "name", s->name, "bytes", (json_int_t)s->bytes,
                                               "samples", (json_int_t)s->samples, "blocks", (json_int_t)s->blocks,
                                               "hash", hash));
    }
    return array;
}

enum status index_print(struct index *index, char **text, size_t *bytes)
{
    enum status status = STATUS_OK;
    char *body = NULL;
    json_t *names = json_array(), *counts = json_array();
    for (int i = 0; i < index->class_count; i++) {
        json_array_append_new(names, json_string(index->class_names[i])); /* fails on a name that is not UTF-8 */
        json_array_append_new(counts, json_integer(index->counts[i]));
    }
    json_t *object = json_pack("{s:s,s:i,s:s,s:s,s:I,s:i,s:i,s:o,s:o,s:o}", "format", "csz", "version", FORMAT_VERSION,
                               "codec", codec_name(index->codec), "made_by", index->made_by, "samples",
                               (json_int_t)index->samples, "width", index->width < 0 ? 0 : index->width, "height",
                               index->height < 0 ? 0 : index->height, "classes", names, "counts", counts, "shards",
                               shards_to_json(index));
    if (!object || json_array_size(names) != (size_t)index->class_count)
        FAIL(STATUS_DATA, "cannot write an index: a class name or the description is not UTF-8 text");
    body = json_dumps(object, JSON_INDENT(1));
    size_t length = body ? strlen(body) : 0;
    *text = body ? malloc(length + sizeof hash_key + TAIL + 1) : NULL;
    if (!*text)
        FAIL(STATUS_NOMEM, "out of memory for an index");
    size_t at = length - 2; /* without the last "\n}" */
    memcpy(*text, body, at);
    memcpy(*text + at, hash_key, sizeof hash_key - 1);
    at += sizeof hash_key - 1;
    hash_text(hash_bytes(*text, at), index->hash);
    memcpy(*text + at, index->hash, HASH_DIGITS);
    memcpy(*text + at + HASH_DIGITS, ending, sizeof ending);
    *bytes = at + TAIL;
fail:
    free(body);
    json_decref(object);
    return status;
}

void index_finish(struct index *index)
{
    strings_free(index->class_names, index->class_count);
    free(index->counts);
    free(index->shards);
    free(index->made_by);
    *index = (struct index){ 0 };
}
