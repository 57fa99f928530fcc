/* log.h - lines for people. Rank 0 speaks; other ranks only warn and fail, with their prefix. */
#ifndef CSC_BASE_LOG_H
#define CSC_BASE_LOG_H

#include <stdbool.h>

/* program: "csc-train"; called again once rank and size are known. */
void log_init(const char *program, int rank, int size);

/* From now on log_info writes to standard error: standard output is for results. */
void log_info_to_stderr(void);

/* Standard output, rank 0 only; flushed. */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Standard error, every rank, "csc-train: rank 3 on HOST: warning: ..." (the rank only if size > 1). */
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The calling thread's status record as the one line of a failed program. */
void log_failure(void);

/* An error line from a thread beside the one that works, which may hang: no progress bar steps aside. */
void log_alarm(const char *line);

/* Called around every line, so that a progress bar can step aside; NULL removes it. */
void log_on_line(void (*before)(void *context), void *context);

#endif
