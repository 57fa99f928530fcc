/* index.h - index.json, which says what a dataset holds and ends in a hash of itself. */
#ifndef CSC_DATA_FORMAT_INDEX_H
#define CSC_DATA_FORMAT_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/format.h"

struct index_shard {
    char name[16]; /* "shard-00000.csz" */
    uint64_t bytes;
    uint64_t samples;
    uint64_t hash; /* of the shard's header and table */
    uint32_t blocks;
};

struct index {
    enum codec codec;
    int64_t samples;
    int width, height; /* of every image; both are 0 if the sizes differ */
    int class_count;
    char **class_names; /* (class_count), in label order */
    int64_t *counts;    /* (class_count), samples of each class */
    int shard_count;
    struct index_shard *shards; /* (shard_count), names ascending */
    char *made_by;              /* a text for people */
    char hash[17];              /* XXH64 of the text in hexadecimal; index_parse and index_print set it */
};

/* The name of a codec, "rgbz" or "jpeg", and the codec of a name. codec_parse returns false for any other name. */
const char *codec_name(enum codec codec);
bool codec_parse(const char *name, enum codec *codec);

/* Parses the text of an index.json. Messages begin with `name`. On success the caller calls index_finish.
 * Errors: STATUS_DATA, STATUS_NOMEM. */
enum status index_parse(struct index *index, const char *text, size_t bytes, const char *name);

/* Reads and parses DIRECTORY/index.json. Errors: STATUS_IO if it is missing or cannot be read, and those of
 * index_parse. */
enum status index_read(struct index *index, const char *directory);

/* Prints an index, including its hash, which is also stored in index->hash. The caller frees *text.
 * Errors: STATUS_DATA if a name is not UTF-8, STATUS_NOMEM. */
enum status index_print(struct index *index, char **text, size_t *bytes);

/* Frees what the index owns. A zero-initialised index is allowed. */
void index_finish(struct index *index);

#endif
