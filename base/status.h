/* status.h - what went wrong, where, said once.
 * A function that can fail returns enum status and keeps a local `status`; FAIL records
 * the first cause with its file and line, TRY passes it on, both jump to `fail:`.
 * Values are the programs' exit codes. The record belongs to the calling thread. */
#ifndef CSC_BASE_STATUS_H
#define CSC_BASE_STATUS_H

enum status {
    STATUS_OK = 0,
    STATUS_USAGE = 2, /* usage, configuration, or a device this machine lacks */
    STATUS_DATA = 65, /* bad data: damaged shard, checkpoint, image */
    STATUS_LOST = 69, /* a peer, device or node was lost */
    STATUS_BUG = 70,  /* internal error */
    STATUS_NOMEM = 71,
    STATUS_IO = 74,
    STATUS_STOPPED = 75, /* stopped on request, with a checkpoint */
    STATUS_HUNG = 86,
    STATUS_NONFINITE = 87, /* non-finite loss */
};

/* Records code, origin and message for this thread and returns code. */
enum status status_report(enum status code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The message of this thread's last report ("" if none) and its "file.c:123". */
const char *status_message(void);
const char *status_origin(void);
enum status status_code(void);

/* Puts '?' in the place of control characters and of what is not UTF-8, so that a text, such as a message with the name
 * of somebody's file, is one line and does not steer a terminal. Reports have this done. */
void status_sanitize(char *text);

/* Forgets this thread's report, once it has been handled. */
void status_clear(void);

/* A report that can travel between threads. */
struct status_record {
    enum status code;
    char message[1024];
    char origin[96];
};
void status_save(struct status_record *record);
enum status status_restore(const struct status_record *record); /* returns its code */

#define FAIL(code, ...)                                             \
    do {                                                            \
        status_report((code), __FILE__, __LINE__, __VA_ARGS__);     \
        status = (code); /* seen by the compiler to be a failure */ \
        goto fail;                                                  \
    } while (0)

#define TRY(call)                \
    do {                         \
        status = (call);         \
        if (status != STATUS_OK) \
            goto fail;           \
    } while (0)

#endif
