/* text.h - the content of small text files: lists of labels and class names. */
#ifndef CSC_DATA_SOURCES_TEXT_H
#define CSC_DATA_SOURCES_TEXT_H

#include <stddef.h>

#include "base/status.h"

/* A copy, ended by a 0 byte and without a byte order mark; the caller frees it. `name` is for messages.
 * STATUS_DATA if it holds a 0 byte. */
enum status text_copy(char **copy, const char *text, size_t bytes, const char *name);

#endif
