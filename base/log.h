/* log.h - lines for people. Rank 0 speaks; other ranks only warn and fail, with their prefix. */
#ifndef CSC_BASE_LOG_H
#define CSC_BASE_LOG_H

#include "base/status.h"

/* program: "csc-train"; called again once rank and size are known. From then on a reader that goes away, a limit on the
 * size of files and a closed standard output are errors of writing, which do not end the program. */
void log_init(const char *program, int rank, int size);

/* From now on log_info writes to standard error: standard output is for results. */
void log_info_to_stderr(void);

/* Standard output, rank 0 only; flushed. The first line that cannot be written is warned of, except of results. */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Standard error, every rank, "csc-train: rank 3 on HOST: warning: ..." (the rank only if size > 1). */
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same of what all ranks know: rank 0 says it. */
void log_warn_rank0(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The calling thread's status record as the one line of a failed program. */
void log_failure(void);

/* An error line from a thread beside the one that works, which may hang: no progress bar steps aside. */
void log_error_line(const char *line);

/* What is printed on standard output from here on is what was asked for, not a log. */
void log_stdout_is_results(void);

/* At a program's end: STATUS_IO if results were printed and not all of them could be written, else `status`. */
enum status log_finish(enum status status);

/* Called around every line, so that a progress bar can step aside; NULL removes it. */
void log_set_line_hook(void (*before)(void *context), void *context);

#endif
