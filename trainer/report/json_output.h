/* json_output.h - writes results as JSON, for --json FILE. */
#ifndef CSC_TRAINER_REPORT_JSON_OUTPUT_H
#define CSC_TRAINER_REPORT_JSON_OUTPUT_H

#include <jansson.h>

#include "base/status.h"

/* Writes the object and a newline with file_write_output. Takes over the reference. A NULL object is
 * STATUS_NOMEM. */
enum status json_output(json_t *object, const char *path);

#endif
