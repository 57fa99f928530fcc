/* watchdog_internal.h - what watchdog.c (beats, judging, ending) and meeting.c (start, meeting, parting) share.
 * One mutex guards all but the place, which the main thread writes without waiting. Threads: main calls the functions
 * of watchdog.h; the watching thread does the rest and never calls the communicator. */
#ifndef CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H
#define CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H

#include <pthread.h>

#include "comm/watchdog/sockets.h"
#include "comm/watchdog/table.h"
#include "comm/watchdog/watchdog.h"

enum { NO_RANK = -1 }; /* a rank */

enum report_state { REPORT_NONE, REPORT_REQUESTED, REPORT_GRANTED, REPORT_DENIED };

struct sent { /* beats, when last */
    double all, coordinators;
    uint64_t counter;
};

struct watchdog {
    struct watchdog_options options;
    int rank, size, coordinators[2]; /* hubs: rank 0 and the deputy, or NO_RANK */
    bool is_coordinator;
    uint8_t token[WATCHDOG_TOKEN_BYTES];
    _Atomic uint64_t packed_progress, progress_counter; /* main thread's; place: phase << 56 | waits << 48 | step */
    pthread_t thread;
    bool running;
    int wake[2]; /* a pipe: ends a look early */

    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t changed;
    struct watchdog_table table;
    struct watchdog_peer *peers; /* a hub's ranks and strangers; everybody's hubs */
    int peer_count, peer_capacity;
    int listeners[WATCHDOG_MAX_ADDRESSES], listener_count;
    struct sent sent;
    bool ready;                      /* all are connected: judging may begin */
    bool stopping, ending, end_sent; /* told: END was sent; ending: this process ends at end_at */
    double end_at;
    enum status end_code;
    enum report_state report;
    enum status failed_code;
    int reporter; /* the first rank that failed, NO_RANK */
};

/* watchdog.c */
double watchdog_now(void);             /* seconds, monotonic */
void *watchdog_thread(void *watchdog); /* the watching thread, until `stopping` */

/* meeting.c. Lets in whoever has dialled, as a stranger; the mutex is held. */
void watchdog_accept(struct watchdog *w, double time);

#endif
