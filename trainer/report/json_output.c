/* json_output.c - writes JSON with an indentation of one and 9 significant digits. */
#include "trainer/report/json_output.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

enum status json_output(json_t *object, const char *path)
{
    enum status status = STATUS_OK;
    char *line = NULL, *text = object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    int bytes = text ? asprintf(&line, "%s\n", text) : -1;
    if (bytes < 0) {
        line = NULL;
        FAIL(STATUS_NOMEM, "out of memory for the results");
    }
    TRY(file_write_output(path, line, (size_t)bytes));
fail:
    json_decref(object);
    free(text);
    free(line);
    return status;
}
