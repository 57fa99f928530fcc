/* class_names.h - the names of classes in label order, found by name whatever their order is. */
#ifndef CSC_DATA_SOURCES_CLASS_NAMES_H
#define CSC_DATA_SOURCES_CLASS_NAMES_H

#include <stddef.h>

#include "base/status.h"

struct class_names {
    char **names; /* (count) */
    int count;
    int *sorted; /* (count): labels in the order of their names; NULL until class_names_sort */
};

/* From a text of one name a line, or from what `path` is: such a file or the folder of a dataset.
 * STATUS_DATA if a name is none or occurs twice. */
enum status class_names_parse(struct class_names *names, const char *text, size_t bytes, const char *name);
enum status class_names_read(struct class_names *names, const char *path);
enum status class_names_copy(struct class_names *names, const struct class_names *from);

/* Prepares class_names_find; `name` is for messages. STATUS_DATA if a name occurs twice. */
enum status class_names_sort(struct class_names *names, const char *name);
/* The label of the class with this name of `length` bytes; -1 if there is none. */
int class_names_find(const struct class_names *names, const char *text, size_t length);
void class_names_finish(struct class_names *names); /* zeros are fine */

#endif
