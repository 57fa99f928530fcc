/* watchdog.h - a watchdog beside the collectives: ranks tell each other over sockets of their own where they are, so
 * that a rank which hangs is named even while all others wait for it in a collective. Every rank sends its place
 * (phase, step) to two hubs, rank 0 and a deputy on another host if there is one; the deputy judges when rank 0 falls
 * silent. A rank that has not been heard of for timeout_s (stopped, node or link dead) or has not moved for that long
 * (alive but stuck) ends the job: one line on one rank, STATUS_HUNG on all. A rank that ends without a word is
 * STATUS_LOST. A rank that fails tells the others, so that one line tells of a failure that several ranks have. */
#ifndef CSC_COMM_WATCHDOG_WATCHDOG_H
#define CSC_COMM_WATCHDOG_WATCHDOG_H

#include "comm/comm.h"
#include "comm/watchdog/phase.h"

struct watchdog;

struct watchdog_options {
    double timeout_s;
    /* Called from the watching thread: says why the job ends, on one rank; then, a moment later, ends this process.
     * NULL: log_error_line, _exit. A test's may return; nothing more is judged then. */
    void (*report)(void *context, const char *line);
    void (*end_process)(void *context, enum status code);
    void *context;
};

/* Collective. Binds to the address on which all ranks reach the hub (loopback on one host) and lets in only who knows a
 * token that travels through comm. Where ranks cannot reach a hub, a warning says so and each watches itself only. */
enum status watchdog_start(struct watchdog **watchdog, struct comm *comm, const struct watchdog_options *options);
/* Not collective: says goodbye and ends the thread. NULL is fine. */
void watchdog_stop(struct watchdog *watchdog);

/* The main thread has moved; cheap enough for every micro-batch. watchdog may be NULL in all of these. */
void watchdog_enter(struct watchdog *watchdog, enum watchdog_phase phase, int64_t step);
/* It enters or has left a collective: a rank that waits is not the one that hangs. */
void watchdog_set_waiting(struct watchdog *watchdog, bool waits);

/* This rank has failed by itself and is about to end the job. True if it is the one to say so; the other ranks end with
 * `code` a moment later. Waits at most 3 seconds for an answer. */
bool watchdog_announce_failure(struct watchdog *watchdog, enum status code);

#endif
