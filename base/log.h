/* log.h - lines for people.
 * Rank 0 writes the log. The other ranks write only warnings and errors, which then begin with "PROGRAM: rank 3 on
 * HOST: ". Every line is written by one call, so that lines of several ranks do not mix. */
#ifndef CSC_BASE_LOG_H
#define CSC_BASE_LOG_H

#include "base/status.h"

/* Called first in main with rank 0 of 1, and again once rank and size are known. It also makes the program survive
 * SIGPIPE and SIGXFSZ and opens /dev/null in place of closed standard streams: a lost reader, a limit on file sizes and
 * a closed output then are errors of the write that meets them. */
void log_init(const char *program, int rank, int size);

/* Writes a line to standard output, on rank 0 only, and flushes it. If standard output fails, one warning says so and
 * the program goes on. */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on log_info writes to standard error, because standard output is for results. */
void log_info_to_stderr(void);

/* From now on standard output holds the results that the user asked for: failing to write it is an error, which
 * log_finish reports. */
void log_stdout_is_results(void);

/* At a program's end: returns STATUS_IO if results could not be written completely, else `status`. */
enum status log_finish(enum status status);

/* Writes a warning to standard error, on every rank that calls it. */
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for something that all ranks notice: only rank 0 writes it. */
void log_warn_rank0(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes the calling thread's failure (see status.h) to standard error, as the one error line of a failed program. */
void log_failure(void);

/* Writes an error line without calling the line hook: for a watchdog thread, while the main thread may hang. */
void log_error_line(const char *line);

/* Sets a function that is called before every line, so that a progress bar can remove itself first; NULL for none. */
void log_set_line_hook(void (*before)(void *context), void *context);

#endif
