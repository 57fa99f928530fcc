/* class_names.h - the names of the classes in label order, and a lookup by name. */
#ifndef CSC_DATA_SOURCES_CLASS_NAMES_H
#define CSC_DATA_SOURCES_CLASS_NAMES_H

#include <stddef.h>

#include "base/status.h"

struct class_names {
    char **names; /* (count) */
    int count;
    int *sorted; /* (count): labels in the order of their names; NULL before class_names_sort */
};

/* Parses a text of one name a line; `name` is for messages. STATUS_DATA if a line cannot be a class name or occurs
 * twice. */
enum status class_names_parse(struct class_names *names, const char *text, size_t bytes, const char *name);
/* Reads them from `path`: a file of one name a line, or the folder of a dataset. */
enum status class_names_read(struct class_names *names, const char *path);
enum status class_names_copy(struct class_names *names, const struct class_names *from);

/* Prepares for class_names_find; `name` is for messages. STATUS_DATA if a class name occurs twice. */
enum status class_names_sort(struct class_names *names, const char *name);
/* The label of the class whose name is the `length` bytes at text; -1 if there is none. */
int class_names_find(const struct class_names *names, const char *text, size_t length);
void class_names_finish(struct class_names *names); /* accepts zeroed names */

#endif
