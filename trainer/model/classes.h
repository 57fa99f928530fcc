/* classes.h - a network's classes by name. A label is a number of its dataset's; what a network has learnt are names.
 */
#ifndef CSC_TRAINER_MODEL_CLASSES_H
#define CSC_TRAINER_MODEL_CLASSES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* The names as a checkpoint keeps them, in state.json's extra.classes: an array of texts. NULL if out of memory. */
json_t *classes_list(char *const *names, int count);

/* extra.classes of a checkpoint's state, borrowed; NULL if it is from before they were kept. STATUS_DATA if it is no
 * list of names, or one of more than `most`. path: the checkpoint, for messages. */
enum status classes_kept(const json_t *extra, int max_classes, const char *path, const json_t **network);

/* The network's number of each of a dataset's classes: *map (count), which the caller frees, or NULL where they are the
 * same. STATUS_USAGE names a class that the network does not know. where: the data, for messages; `say`: one line tells
 * of a subset or another order. */
enum status classes_map(const json_t *network, char *const *names, int count, const char *where, bool log,
                        int32_t **map);

#endif
