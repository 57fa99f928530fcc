/* text.h - the content of small text files, such as lists of labels or class names. */
#ifndef CSC_DATA_SOURCES_TEXT_H
#define CSC_DATA_SOURCES_TEXT_H

#include <stddef.h>

#include "base/status.h"

/* Makes a copy that ends with a 0 byte and has no byte order mark; the caller frees it. `name` is for messages.
 * STATUS_DATA if the text contains a 0 byte. */
enum status text_copy(char **copy, const char *text, size_t bytes, const char *name);

#endif
