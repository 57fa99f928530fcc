/* index.h - index.json: what a dataset holds, under a hash of its own. */
#ifndef CSC_DATA_FORMAT_INDEX_H
#define CSC_DATA_FORMAT_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/format.h"

struct index_shard {
    char name[16]; /* "shard-00000.csz" */
    uint64_t bytes, samples, hash;
    uint32_t blocks;
};

struct index {
    enum codec codec;
    int64_t samples;
    int width, height; /* of every image, or 0 and 0 if they differ */
    int class_count;
    char **class_names; /* (class_count) */
    int64_t *counts;    /* (class_count): samples of each */
    int shard_count;
    struct index_shard *shards; /* (shard_count), names ascending */
    char *made_by;              /* one line for people */
    char hash[17];              /* XXH64 of the text, hex; set by parsing and by printing */
};

/* "rgbz" or "jpeg", and back. */
const char *codec_name(enum codec codec);
bool codec_parse(const char *name, enum codec *codec);

/* Parses the text of an index.json; `name` is for messages. STATUS_DATA, STATUS_NOMEM. */
enum status index_parse(struct index *index, const char *text, size_t bytes, const char *name);

/* Reads and parses directory/index.json. STATUS_IO if it is not there. */
enum status index_read(struct index *index, const char *directory);

/* The text of an index, hash included; the caller frees it. Sets index->hash. */
enum status index_print(struct index *index, char **text, size_t *bytes);

void index_finish(struct index *index);

#endif
