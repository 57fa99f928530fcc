/* watchdog.h - finds the rank that hangs.
 * If a rank hangs, all other ranks wait for it in a collective operation and cannot tell which one it is. So every rank
 * has a thread that exchanges heartbeats, which hold phase and step of its main thread, over TCP sockets of its own.
 * Two ranks are coordinators: rank 0, and a backup on another host if there is one, which takes over when rank 0 falls
 * silent. The coordinator ends the job with STATUS_HUNG if a rank has not been heard of for timeout_s (the process is
 * stopped, or its node or link is down) or has made no progress for so long, and with STATUS_LOST if a rank's
 * connection ends without a goodbye. One rank prints one line that names the culprit. A rank that fails by itself
 * announces that, so that the others end too and only one rank reports. */
#ifndef CSC_COMM_WATCHDOG_WATCHDOG_H
#define CSC_COMM_WATCHDOG_WATCHDOG_H

#include "comm/comm.h"
#include "comm/watchdog/phase.h"

struct watchdog;

struct watchdog_options {
    double timeout_s;
    /* Callbacks from the watchdog's thread, for tests. NULL: log_error_line and _exit. On one rank `report` receives
     * the line that says why the job ends; a second later `end_process` is called on all. It may return; the watchdog
     * checks nothing more then. */
    void (*report)(void *context, const char *line);
    void (*end_process)(void *context, enum status code);
    void *context;
};

/* Collective. The coordinators listen on an address that all ranks reach (loopback if there is one host) and accept
 * only connections that show a secret token, which is sent through `comm`. If a coordinator cannot be reached, a
 * warning says so and every rank watches only itself. */
enum status watchdog_start(struct watchdog **watchdog, struct comm *comm, const struct watchdog_options *options);

/* Says goodbye to the other ranks and ends the thread. Not collective; NULL is fine. */
void watchdog_stop(struct watchdog *watchdog);

/* The main thread calls these as it proceeds. They are cheap enough for every micro-batch; `watchdog` may be NULL. */

/* It begins a phase of a step. */
void watchdog_enter(struct watchdog *watchdog, enum watchdog_phase phase, int64_t step);

/* It enters or leaves a collective operation. A rank that waits for others is not the one that hangs. */
void watchdog_set_waiting(struct watchdog *watchdog, bool waiting);

/* It has failed and is about to end the process. The other ranks will end with `code` a moment later. Returns whether
 * this rank should print the failure, after waiting for a coordinator's answer for at most 3 seconds. */
bool watchdog_announce_failure(struct watchdog *watchdog, enum status code);

#endif
