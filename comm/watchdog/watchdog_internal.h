/* watchdog_internal.h - what watchdog.c (heartbeats, checks, the end) and meeting.c (connecting and parting) share.
 * The main thread calls the functions of watchdog.h. The watchdog's thread does everything else and never uses the
 * communicator. The mutex guards everything below it. */
#ifndef CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H
#define CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H

#include <pthread.h>

#include "comm/watchdog/sockets.h"
#include "comm/watchdog/table.h"
#include "comm/watchdog/watchdog.h"

/* This rank's request to report its own failure. */
enum report_state { REPORT_NONE, REPORT_REQUESTED, REPORT_GRANTED, REPORT_DENIED };

struct sent { /* the last heartbeats: when they were sent, and the progress counter in them */
    double all, coordinators;
    uint64_t counter;
};

struct watchdog {
    struct watchdog_options options;
    int rank, size;
    int coordinators[2]; /* rank 0 and the backup, or NO_RANK */
    bool is_coordinator;
    uint8_t token[WATCHDOG_TOKEN_BYTES];
    _Atomic uint64_t packed_progress; /* written by the main thread: phase << 56 | waiting << 48 | step */
    _Atomic uint64_t progress_counter;
    pthread_t thread;
    bool running;
    int wake[2]; /* a pipe that wakes the thread early */

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* `report` or `ending` */
    struct watchdog_table table;
    struct watchdog_peer *peers; /* connections: to the coordinators; on a coordinator also those that it accepted */
    int peer_count, peer_capacity;
    int listeners[WATCHDOG_MAX_ADDRESSES], listener_count;
    struct sent sent;
    bool ready;    /* all ranks are connected, so checks may begin */
    bool stopping; /* watchdog_stop was called */
    bool ending;   /* this process ends at end_at with end_code */
    bool end_sent; /* WATCHDOG_END was sent */
    double end_at;
    enum status end_code;
    enum report_state report;
    enum status failed_code; /* of this rank's own failure */
    int reporter;            /* on a coordinator: the first rank that failed, or NO_RANK */
};

/* watchdog.c */
double watchdog_now(void); /* seconds, monotonic */
void *watchdog_thread(void *watchdog);

/* meeting.c: accepts new connections, which are not yet authenticated. The caller holds the mutex. */
void watchdog_accept(struct watchdog *w, double time);

#endif
