/* status.h - how functions report failure.
 * A function that can fail returns enum status and has a local variable `status` and a label `fail:`. FAIL records the
 * first cause with its file and line; TRY passes another function's failure on. Both jump to `fail:`.
 * The record of the last failure belongs to the calling thread. Only main prints it (see log_failure) and turns it into
 * the program's exit code. */
#ifndef CSC_BASE_STATUS_H
#define CSC_BASE_STATUS_H

/* The values are the programs' exit codes. */
enum status {
    STATUS_OK = 0,
    STATUS_USAGE = 2,      /* wrong usage or configuration, or a device that this machine lacks */
    STATUS_DATA = 65,      /* bad data: a damaged shard, checkpoint or image */
    STATUS_LOST = 69,      /* a rank, its device or its node was lost */
    STATUS_BUG = 70,       /* internal error */
    STATUS_NOMEM = 71,     /* out of memory, on the host or a device */
    STATUS_IO = 74,        /* a file or a stream cannot be read or written */
    STATUS_STOPPED = 75,   /* stopped on request after writing a checkpoint */
    STATUS_HUNG = 86,      /* a rank made no progress for too long */
    STATUS_NONFINITE = 87, /* the loss is infinite or not a number */
};

/* Records a failure for this thread and returns `code`. The message is sanitized and cut to one line of 1023 bytes. */
enum status status_report(enum status code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* This thread's last report: its code, its message ("" if there is none) and its origin, "folder/file.c:123". The
 * strings are valid until the next report. */
enum status status_code(void);
const char *status_message(void);
const char *status_origin(void);

/* Forgets this thread's report after the failure has been handled. */
void status_clear(void);

/* Replaces control characters and invalid UTF-8 by '?', so that a text with somebody's file name in it stays on one
 * line and cannot steer a terminal. */
void status_sanitize(char *text);

/* A report that can be passed to another thread or rank. */
struct status_record {
    enum status code;
    char message[1024];
    char origin[96];
};

/* Copies this thread's report to the record, and back. status_restore returns the record's code. */
void status_save(struct status_record *record);
enum status status_restore(const struct status_record *record);

#define FAIL(code, ...)                                                  \
    do {                                                                 \
        status_report((code), __FILE__, __LINE__, __VA_ARGS__);          \
        status = (code); /* so that the compiler knows that it failed */ \
        goto fail;                                                       \
    } while (0)

#define TRY(call)                \
    do {                         \
        status = (call);         \
        if (status != STATUS_OK) \
            goto fail;           \
    } while (0)

#endif
