/* table.h - what one rank knows of all ranks' places, and its judgement. No clock and no sockets in here. */
#ifndef CSC_COMM_WATCHDOG_TABLE_H
#define CSC_COMM_WATCHDOG_TABLE_H

#include "comm/watchdog/frames.h"

enum { WATCH_HOST = 64 };
/* Seconds between the end of a connection and the verdict: a goodbye may be on its way. */
#define WATCH_LOST_AFTER 1.0

struct watch_entry {
    char host[WATCH_HOST];
    double heard, moved; /* when, in seconds of any clock */
    struct watch_place place;
    bool left; /* not judged: said goodbye, failed and said so, or is not heard here at all */
    bool lost; /* its connection ended without that, at `heard` */
};

struct watch_table {
    int size;
    double timeout;
    struct watch_entry *ranks;
};

/* A sign of life. */
void watch_table_beat(struct watch_table *table, int rank, const struct watch_place *place, double now);

/* This process itself was stopped for so long: nobody could be heard. */
void watch_table_shift(struct watch_table *table, double seconds);

bool watch_table_silent(const struct watch_table *table, int rank, double now);

/* Whether the job is to end: STATUS_HUNG or STATUS_LOST, and the line that says why. STATUS_OK: not yet. */
enum status watch_table_judge(const struct watch_table *table, double now, char line[512]);

#endif
