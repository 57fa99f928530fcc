/* watchdog_internal.h - what watchdog.c (beats, judging, ending) and meeting.c (start, meeting, parting) share.
 * One mutex guards all but the place, which the main thread writes without waiting. Threads: main calls the functions
 * of watchdog.h; the watching thread does the rest and never calls the communicator. */
#ifndef CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H
#define CSC_COMM_WATCHDOG_WATCHDOG_INTERNAL_H

#include <pthread.h>

#include "comm/watchdog/sockets.h"
#include "comm/watchdog/table.h"
#include "comm/watchdog/watchdog.h"

enum { NOBODY = -1 }; /* a rank */

enum asked { NOT_ASKED, ASKED, SPEAK, QUIET };

struct sent { /* beats, when last */
    double all, hubs;
    uint64_t beat;
};

struct watch {
    struct watch_options options;
    int rank, size, hubs[2]; /* hubs: rank 0 and the deputy, or NOBODY */
    bool hub;
    uint8_t token[WATCH_TOKEN];
    _Atomic uint64_t place, beat; /* main thread's; place: phase << 56 | waits << 48 | step */
    pthread_t thread;
    bool running;
    int wake[2]; /* a pipe: ends a look early */

    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t answered;
    struct watch_table table;
    struct watch_peer *peers; /* a hub's ranks and strangers; everybody's hubs */
    int peer_count, peer_room;
    int listeners[WATCH_ADDRESSES], listener_count;
    struct sent sent;
    bool ready;                  /* all are connected: judging may begin */
    bool stopping, ending, told; /* told: END was sent; ending: this process ends at end_at */
    double end_at;
    enum status end_code;
    enum asked asked;
    enum status failed_code;
    int speaker; /* the first rank that failed, NOBODY */
};

/* watchdog.c */
double watch_now(void);          /* seconds, monotonic */
void *watch_thread(void *watch); /* the watching thread, until `stopping` */

/* meeting.c. Lets in whoever has dialled, as a stranger; the mutex is held. */
void watch_accept(struct watch *w, double time);

#endif
