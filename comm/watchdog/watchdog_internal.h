/* watchdog_internal.h - what watchdog.c (heartbeats, checks, the end) and meeting.c (connecting and parting) share.
 * The main thread calls the functions of watchdog.h. The watchdog's thread does everything else and never uses the
 * communicator. The mutex guards everything below it. */
#ifndef CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H
#define CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H

#include <poll.h>
#include <pthread.h>

#include "comm/watchdog/sockets.h"
#include "comm/watchdog/table.h"
#include "comm/watchdog/watchdog.h"

/* This rank's request to report its own failure. */
enum report_state { REPORT_NONE, REPORT_REQUESTED, REPORT_GRANTED, REPORT_DENIED };

struct watchdog {
    struct watchdog_options options;
    int rank, size;
    int coordinators[2]; /* rank 0 and the backup, or NO_RANK */
    uint8_t token[WATCHDOG_TOKEN_BYTES];
    _Atomic uint64_t packed_progress; /* written by the main thread: phase << 56 | waiting << 48 | step */
    _Atomic uint64_t progress_counter;
    pthread_t thread;
    bool running;

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* `report` or `ending` */
    struct watchdog_table table;
    /* Connections: to the coordinators; on a coordinator also those that it accepted. Closed ones are used again. */
    struct watchdog_peer *peers;
    int peer_count, peer_capacity;
    struct pollfd *polls; /* the thread's: (WATCHDOG_MAX_ADDRESSES + peer_capacity) */
    int listeners[WATCHDOG_MAX_ADDRESSES], listener_count;
    double sent_to_all, sent_to_coordinators; /* the times of the last heartbeats */
    uint64_t sent_counter;                    /* the progress counter in them */
    bool ready;                               /* all ranks are connected, so checks may begin */
    bool stopping;                            /* watchdog_stop was called */
    bool ending;                              /* this process ends at end_at with end_code */
    double end_at;
    enum status end_code;
    enum report_state report;
    int reporter; /* on a coordinator: the first rank that failed, or NO_RANK */
};

/* watchdog.c */
void *watchdog_thread(void *watchdog);

/* meeting.c. The caller holds the mutex. */
bool watchdog_is_coordinator(const struct watchdog *w, int rank);
void watchdog_accept(struct watchdog *w); /* accepts new connections, which are not yet authenticated */

#endif
