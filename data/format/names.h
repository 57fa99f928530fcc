/* names.h - which names the format allows for shards and classes. */
#ifndef CSC_DATA_FORMAT_NAMES_H
#define CSC_DATA_FORMAT_NAMES_H

#include <stdbool.h>

/* Whether this is the name of a shard's file: "shard-" and five digits and ".csz". */
bool shard_name_ok(const char *name);

/* Whether a class may have this name: UTF-8 of 1 to LIMIT_NAME bytes without control characters. */
bool class_name_ok(const char *name);

#endif
