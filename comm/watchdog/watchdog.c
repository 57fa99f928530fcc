/* watchdog.c - the watchdog's thread. It wakes up every POLL_S or when a message arrives, accepts new connections,
 * reads all messages, sends a heartbeat and, if it is this rank's turn, checks the deadlines. The main thread sends
 * heartbeats itself where that is cheap, and asks a coordinator before it reports a failure. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "comm/watchdog/watchdog_internal.h"

enum { MAX_IMMEDIATE_RANKS = 64 }; /* up to so many ranks, every change of progress is sent at once */
#define HANDSHAKE_S 5.0            /* for a new connection to show the token */
#define POLL_S      0.05           /* between two rounds */
#define GRACE_S     1.0            /* between the decision and the end, to send frames and print the line */
#define SUSPENDED_S 2.0            /* a round that is so late means that this process was suspended */

double watchdog_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- progress of the main thread ---- */

static uint64_t pack(enum watchdog_phase phase, bool waits, int64_t step)
{
    return (uint64_t)phase << 56 | (uint64_t)waits << 48 | (uint64_t)step;
}

static struct watchdog_progress unpack(struct watchdog *w)
{
    uint64_t counter = atomic_load(&w->progress_counter), packed = atomic_load(&w->packed_progress);
    return (struct watchdog_progress){ (enum watchdog_phase)(packed >> 56), packed >> 48 & 1,
                                       (int64_t)(packed & (((uint64_t)1 << 48) - 1)), counter };
}

static bool is_coordinator_rank(const struct watchdog *w, int rank)
{
    return rank == w->coordinators[0] || rank == w->coordinators[1];
}

/* Sends a heartbeat to all connected ranks once a second or so, and to the coordinators whenever there was progress. */
static void send_heartbeat(struct watchdog *w, double time)
{
    struct watchdog_frame frame = { .type = WATCHDOG_HEARTBEAT, .rank = w->rank, .progress = unpack(w) };
    struct sent *sent = &w->sent;
    watchdog_table_heartbeat(&w->table, w->rank, &frame.progress, time);
    double pause = w->size > MAX_IMMEDIATE_RANKS ? 0.5 : 0.001; /* with many ranks, not every step is sent */
    bool to_all = time - sent->all >= (w->options.timeout_s < 8 ? w->options.timeout_s / 8 : 1);
    bool to_coordinators = to_all || (frame.progress.counter != sent->counter && time - sent->coordinators >= pause);
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank != NO_RANK && (is_coordinator_rank(w, w->peers[i].rank) ? to_coordinators : to_all))
            watchdog_send(&w->peers[i], &frame, false);
    if (to_all)
        sent->all = time;
    if (to_coordinators) {
        sent->coordinators = time;
        sent->counter = frame.progress.counter;
    }
}

/* Sends progress at once where that is cheap, so that a rank that stops a moment later is named with its true step and
 * phase. */
static void send_progress(struct watchdog *w)
{
    atomic_fetch_add(&w->progress_counter, 1);
    if (w->size == 1 || w->size > MAX_IMMEDIATE_RANKS || pthread_mutex_trylock(&w->mutex) != 0)
        return;
    if (w->ready && !w->ending)
        send_heartbeat(w, watchdog_now());
    pthread_mutex_unlock(&w->mutex);
}

void watchdog_enter(struct watchdog *w, enum watchdog_phase phase, int64_t step)
{
    if (!w)
        return;
    atomic_store(&w->packed_progress, pack(phase, false,
                                           step < 0                   ? 0
                                           : step < WATCHDOG_MAX_STEP ? step
                                                                      : WATCHDOG_MAX_STEP));
    send_progress(w);
}

void watchdog_set_waiting(struct watchdog *w, bool waits)
{
    if (!w)
        return;
    uint64_t packed = atomic_load(&w->packed_progress), bit = (uint64_t)1 << 48;
    atomic_store(&w->packed_progress, waits ? packed | bit : packed & ~bit);
    send_progress(w);
}

/* ---- the end ---- */

static void end_at(struct watchdog *w, enum status code, double when)
{
    if (w->ending)
        return;
    w->ending = true;
    pthread_cond_signal(&w->changed);
    w->end_code = code;
    w->end_at = when;
}

static void send_end(struct watchdog *w, enum status code, int but)
{
    struct watchdog_frame frame = { .type = WATCHDOG_END, .rank = w->rank, .code = code };
    if (w->end_sent)
        return;
    w->end_sent = true;
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank != NO_RANK && w->peers[i].rank != but)
            watchdog_send(&w->peers[i], &frame, true);
}

/* ---- failures ---- */

static struct watchdog_peer *peer_of(struct watchdog *w, int rank)
{
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank == rank && w->peers[i].fd >= 0)
            return &w->peers[i];
    return NULL;
}

/* A coordinator lets the first rank that failed report, unless the end has been decided already. */
static bool grant_report(struct watchdog *w, int rank, enum status code)
{
    if (w->reporter != NO_RANK || w->ending)
        return false;
    w->reporter = rank;
    send_end(w, code, rank);
    return true;
}

/* The first coordinator that can be heard, or NO_RANK. */
static int reachable_coordinator(struct watchdog *w)
{
    for (int i = 0; i < 2; i++)
        if (w->coordinators[i] == w->rank || (w->coordinators[i] != NO_RANK && peer_of(w, w->coordinators[i]) &&
                                              !watchdog_table_silent(&w->table, w->coordinators[i], watchdog_now())))
            return w->coordinators[i];
    return NO_RANK;
}

static void request_report(struct watchdog *w)
{
    int coordinator = reachable_coordinator(w);
    struct watchdog_frame frame = { .type = WATCHDOG_FAILED, .rank = w->rank, .code = w->failed_code };
    for (int i = 0; i < w->peer_count; i++) /* the other coordinator must not take this rank for lost */
        if (w->peers[i].rank != NO_RANK &&
            (w->peers[i].rank == w->coordinators[0] || w->peers[i].rank == w->coordinators[1]))
            watchdog_send(&w->peers[i], &frame, true);
    if (coordinator == w->rank)
        w->report = grant_report(w, w->rank, w->failed_code) ? REPORT_GRANTED : REPORT_DENIED;
    else if (coordinator == NO_RANK)
        w->report = REPORT_GRANTED;
    if (w->report != REPORT_REQUESTED)
        pthread_cond_signal(&w->changed);
}

bool watchdog_announce_failure(struct watchdog *w, enum status code)
{
    if (!w)
        return true;
    struct timespec verdict = clock_deadline(2), until = clock_deadline(3);
    pthread_mutex_lock(&w->mutex);
    while (code == STATUS_LOST && !w->ending && pthread_cond_timedwait(&w->changed, &w->mutex, &verdict) == 0)
        ; /* a coordinator knows better who was lost, so wait for its decision */
    w->failed_code = code;
    w->report = w->ending ? REPORT_DENIED : REPORT_REQUESTED;
    if (w->report == REPORT_REQUESTED)
        request_report(w);
    while (w->report == REPORT_REQUESTED && pthread_cond_timedwait(&w->changed, &w->mutex, &until) == 0)
        ;
    bool granted = w->report != REPORT_DENIED;
    pthread_mutex_unlock(&w->mutex);
    return granted;
}

/* ---- frames ---- */

/* Handles the first message of a connection. Returns false if the connection must be closed. */
static bool handle_hello(struct watchdog *w, struct watchdog_peer *p, const struct watchdog_frame *f, double time)
{
    struct watchdog_frame welcome = { .type = WATCHDOG_WELCOME, .rank = w->rank };
    if (f->type != WATCHDOG_HELLO || !watchdog_token_equal(f->token, w->token) || f->rank >= w->size ||
        f->rank == w->rank || peer_of(w, f->rank))
        return false;
    memcpy(welcome.token, w->token, WATCHDOG_TOKEN_BYTES);
    watchdog_send(p, &welcome, true);
    p->rank = f->rank;
    w->table.ranks[f->rank].unmonitored = w->table.ranks[f->rank].lost = false;
    w->table.ranks[f->rank].last_heard = w->table.ranks[f->rank].last_progress = time;
    return true;
}

/* Handles any later message. Returns false if no rank of this job would send it. */
static bool handle_message(struct watchdog *w, struct watchdog_peer *p, const struct watchdog_frame *f, double time)
{
    struct watchdog_entry *entry = &w->table.ranks[p->rank];
    struct watchdog_frame answer = { .type = WATCHDOG_ANSWER, .rank = w->rank };
    if (f->rank != p->rank)
        return false;
    entry->last_heard = time;
    switch (f->type) {
    case WATCHDOG_HEARTBEAT: watchdog_table_heartbeat(&w->table, p->rank, &f->progress, time); return true;
    case WATCHDOG_GOODBYE: entry->unmonitored = true; return true;
    case WATCHDOG_FAILED:
        entry->unmonitored = true;
        if (!w->is_coordinator || f->code == STATUS_OK)
            return false;
        if (w->rank == w->coordinators[0] || watchdog_table_silent(&w->table, w->coordinators[0], time)) {
            answer.code = grant_report(w, p->rank, (enum status)f->code);
            watchdog_send(p, &answer, true);
            end_at(w, (enum status)f->code, time + 2 * GRACE_S);
        }
        return true;
    case WATCHDOG_ANSWER:
        if (w->report != REPORT_REQUESTED || f->code > 1 || !is_coordinator_rank(w, p->rank))
            return false;
        w->report = f->code ? REPORT_GRANTED : REPORT_DENIED;
        pthread_cond_signal(&w->changed);
        return true;
    case WATCHDOG_END:
        if (!is_coordinator_rank(w, p->rank) || f->code == STATUS_OK)
            return false;
        entry->unmonitored = true;
        if (w->report == REPORT_REQUESTED) { /* another rank reports; the one that may is not sent this message */
            w->report = REPORT_DENIED;
            pthread_cond_signal(&w->changed);
        }
        end_at(w, (enum status)f->code, time + GRACE_S);
        return true;
    default: return false;
    }
}

static void peer_lost(struct watchdog *w, struct watchdog_peer *p, double time)
{
    if (p->rank != NO_RANK) {
        w->table.ranks[p->rank].lost = true;
        w->table.ranks[p->rank].last_heard = time;
        if (w->report == REPORT_REQUESTED && p->rank == reachable_coordinator(w)) { /* it will not answer any more */
            w->report = REPORT_GRANTED;
            pthread_cond_signal(&w->changed);
        }
    }
    watchdog_close(p);
}

static void read_messages(struct watchdog *w, struct watchdog_peer *p, double time)
{
    struct watchdog_frame frame;
    for (int got; p->ready && p->fd >= 0 && (got = watchdog_receive(p, &frame)) != 0;) {
        bool good = got > 0 &&
                    (p->rank == NO_RANK ? handle_hello(w, p, &frame, time) : handle_message(w, p, &frame, time));
        if (!good)
            peer_lost(w, p, time);
    }
    if (p->fd >= 0 && p->rank == NO_RANK && time - p->since > HANDSHAKE_S)
        watchdog_close(p);
}

/* ---- the thread ---- */

static void remove_closed(struct watchdog *w)
{
    int kept = 0;
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].fd >= 0)
            w->peers[kept++] = w->peers[i];
    w->peer_count = kept;
}

/* Whether this rank checks the deadlines: rank 0 does; the backup if rank 0 is silent; any other rank if both have
 * been silent for some time longer. Those ranks take turns, because the first that ends the job takes the others with
 * it. */
static bool may_check(struct watchdog *w, double time)
{
    double earlier = time - 2 - (w->rank < 60 ? 0.05 * w->rank : 3);
    if (w->rank == w->coordinators[0])
        return true;
    if (w->rank == w->coordinators[1])
        return watchdog_table_silent(&w->table, w->coordinators[0], time);
    return watchdog_table_silent(&w->table, w->coordinators[0], earlier) &&
           watchdog_table_silent(&w->table, w->coordinators[1], earlier);
}

static void check_deadlines(struct watchdog *w, double time)
{
    char line[WATCHDOG_LINE_BYTES];
    if (!w->ready || w->ending || w->reporter != NO_RANK || w->report != REPORT_NONE || !may_check(w, time))
        return;
    enum status code = watchdog_table_check(&w->table, time, line);
    if (code == STATUS_OK)
        return;
    w->options.report(w->options.context, line);
    send_end(w, code, NO_RANK);
    end_at(w, code, time + GRACE_S);
}

/* Unlocks the mutex and waits until there is something to read or POLL_S have passed. */
static void wait_for_events(struct watchdog *w, struct pollfd **polls, int *capacity)
{
    int count = 0, needed = w->peer_count + w->listener_count + 1;
    if (needed > *capacity) {
        struct pollfd *more = realloc(*polls, (size_t)(2 * needed) * sizeof *more);
        if (more) {
            *polls = more;
            *capacity = 2 * needed;
        }
    }
    if (*capacity)
        (*polls)[count++] = (struct pollfd){ .fd = w->wake[0], .events = POLLIN };
    for (int i = 0; i < w->listener_count && count < *capacity; i++)
        (*polls)[count++] = (struct pollfd){ .fd = w->listeners[i], .events = POLLIN };
    int first = count;
    for (int i = 0; i < w->peer_count && count < *capacity; i++)
        (*polls)[count++] = (struct pollfd){ .fd = w->peers[i].fd, .events = POLLIN };
    pthread_mutex_unlock(&w->mutex);
    poll(*polls, (nfds_t)count, (int)(1000 * POLL_S));
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->peer_count; i++) /* connections that the main thread has added meanwhile were not polled */
        w->peers[i].ready = first + i >= count || (*polls)[first + i].revents;
}

void *watchdog_thread(void *context)
{
    struct watchdog *w = context;
    struct pollfd *polls = NULL;
    int capacity = 0;
    double last = watchdog_now();
    bool ended = false;
    pthread_setname_np(pthread_self(), "csc-watchdog");
    pthread_mutex_lock(&w->mutex);
    while (!w->stopping) {
        wait_for_events(w, &polls, &capacity);
        double time = watchdog_now();
        if (time - last > SUSPENDED_S)
            watchdog_table_shift(&w->table, time - last);
        last = time;
        watchdog_accept(w, time);
        for (int i = 0; i < w->peer_count; i++)
            read_messages(w, &w->peers[i], time);
        remove_closed(w);
        if (ended)
            continue;
        send_heartbeat(w, time);
        check_deadlines(w, time);
        if (w->ending && time >= w->end_at && w->report == REPORT_NONE) {
            w->options.end_process(w->options.context, w->end_code);
            ended = true; /* reached only in tests */
        }
    }
    pthread_mutex_unlock(&w->mutex);
    free(polls);
    return NULL;
}
