/* classes.h - the names of a network's classes. Labels are indices within one dataset, so datasets and networks are
 * matched by the names of their classes. */
#ifndef CSC_TRAINER_MODEL_CLASSES_H
#define CSC_TRAINER_MODEL_CLASSES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* An array of names, as state.json keeps it in extra.classes. NULL if out of memory. */
json_t *classes_list(char *const *names, int count);

/* Finds extra.classes in a checkpoint's state, which keeps it. NULL if the checkpoint is older than such lists.
 * STATUS_DATA if it is not a list of names, or of more than max_classes. path: the checkpoint, for messages. */
enum status classes_read(const json_t *extra, int max_classes, const char *path, const json_t **network);

/* Finds the network's index of each class of a dataset: *map, (count), which the caller frees, or NULL if the indices
 * are the same. STATUS_USAGE names a class that the network does not know. where: the dataset, for messages. `log`: a
 * line tells if the dataset has only some of the classes, or another order. */
enum status classes_map(const json_t *network, char *const *names, int count, const char *where, bool log,
                        int32_t **map);

#endif
