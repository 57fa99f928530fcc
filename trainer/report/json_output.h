/* json_output.h - results as JSON, as --json FILE asks for them. */
#ifndef CSC_TRAINER_REPORT_JSON_OUTPUT_H
#define CSC_TRAINER_REPORT_JSON_OUTPUT_H

#include <jansson.h>

#include "base/status.h"

/* Writes `object`, whose reference it takes, by file_write_output, with a newline at its end. NULL is STATUS_NOMEM. */
enum status json_output(json_t *object, const char *path);

#endif
