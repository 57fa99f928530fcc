/* table.h - what one rank knows of all ranks' places, and its judgement. No clock and no sockets in here. */
#ifndef CSC_COMM_WATCHDOG_TABLE_H
#define CSC_COMM_WATCHDOG_TABLE_H

#include "base/status.h"
#include "comm/watchdog/frames.h"

enum { WATCHDOG_HOST_BYTES = 64 };
/* Seconds between the end of a connection and the verdict: a goodbye may be on its way. */
#define WATCHDOG_LOST_AFTER_S 1.0

struct watchdog_entry {
    char host[WATCHDOG_HOST_BYTES];
    double last_heard, last_progress; /* when, in seconds of any clock */
    struct watchdog_progress progress;
    bool unmonitored; /* not judged: said goodbye, failed and said so, or is not heard here at all */
    bool lost;        /* its connection ended without that, at `heard` */
};

struct watchdog_table {
    int size;
    double timeout;
    struct watchdog_entry *ranks;
};

/* A sign of life. */
void watchdog_table_heartbeat(struct watchdog_table *table, int rank, const struct watchdog_progress *progress,
                              double now);

/* This process itself was stopped for so long: nobody could be heard. */
void watchdog_table_shift(struct watchdog_table *table, double seconds);

bool watchdog_table_silent(const struct watchdog_table *table, int rank, double now);

/* Whether the job is to end: STATUS_HUNG or STATUS_LOST, and the line that says why. STATUS_OK: not yet. */
enum status watchdog_table_check(const struct watchdog_table *table, double now, char line[512]);

#endif
