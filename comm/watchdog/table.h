/* table.h - what one rank knows about the progress of all ranks, and which of them hangs. Uses no clock and no sockets:
 * times are seconds that the caller passes. */
#ifndef CSC_COMM_WATCHDOG_TABLE_H
#define CSC_COMM_WATCHDOG_TABLE_H

#include "base/status.h"
#include "comm/watchdog/frames.h"

enum { WATCHDOG_HOST_BYTES = 64, WATCHDOG_LINE_BYTES = 512 };
/* From the end of a connection until its rank counts as lost: a goodbye may follow. */
#define WATCHDOG_LOST_AFTER_S 1.0

struct watchdog_entry {
    char host[WATCHDOG_HOST_BYTES];
    double last_heard, last_progress; /* times */
    struct watchdog_progress progress;
    bool unmonitored; /* it said goodbye, announced a failure, or is not connected to this rank */
    bool lost;        /* its connection ended, at last_heard, without a goodbye */
};

struct watchdog_table {
    int size;
    double timeout; /* seconds */
    struct watchdog_entry *ranks;
};

void watchdog_table_heartbeat(struct watchdog_table *table, int rank, const struct watchdog_progress *progress,
                              double now);

/* This process itself was suspended for `seconds`, in which it could hear nobody: moves all times. */
void watchdog_table_shift(struct watchdog_table *table, double seconds);

/* Whether the rank has not been heard of for too long. */
bool watchdog_table_silent(const struct watchdog_table *table, int rank, double now);

/* Returns STATUS_HUNG or STATUS_LOST if the job must end, with the line that says why, else STATUS_OK. */
enum status watchdog_table_check(const struct watchdog_table *table, double now, char line[WATCHDOG_LINE_BYTES]);

#endif
