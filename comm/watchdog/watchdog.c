/* watchdog.c - the watchdog's thread. It wakes up every POLL_S or when a message arrives, accepts new connections,
 * reads all messages, sends a heartbeat and, if it is this rank's turn, checks the deadlines. The main thread sends
 * heartbeats itself where that is cheap, and asks a coordinator before it reports a failure. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "comm/watchdog/watchdog_internal.h"

enum { MAX_IMMEDIATE_RANKS = 64 }; /* up to so many ranks, every change of progress is sent at once */
#define POLL_S      0.05           /* between two rounds */
#define GRACE_S     1.0            /* between the decision and the end, to send frames and print the line */
#define SUSPENDED_S 2.0            /* a round that is so late means that this process was suspended */

/* Sends a frame to all connected ranks, or only to the coordinators, but not to rank `but`. */
static void send_frame(struct watchdog *w, const struct watchdog_frame *frame, bool only_coordinators, int but,
                       bool must_arrive)
{
    for (int i = 0; i < w->peer_count; i++) {
        int rank = w->peers[i].rank;
        if (rank != NO_RANK && rank != but && (!only_coordinators || watchdog_is_coordinator(w, rank)))
            watchdog_send(&w->peers[i], frame, must_arrive);
    }
}

/* ---- progress of the main thread ---- */

#define WAITS_BIT ((uint64_t)1 << 48)

static struct watchdog_progress unpack_progress(struct watchdog *w)
{
    uint64_t counter = atomic_load(&w->progress_counter), packed = atomic_load(&w->packed_progress);
    return (struct watchdog_progress){ (enum watchdog_phase)(packed >> 56), (packed & WAITS_BIT) != 0,
                                       (int64_t)(packed & (WAITS_BIT - 1)), counter };
}

/* Sends a heartbeat to all connected ranks once a second or so, and to the coordinators whenever there was progress. */
static void send_heartbeat(struct watchdog *w, double time)
{
    struct watchdog_frame frame = { .type = WATCHDOG_HEARTBEAT, .rank = w->rank, .progress = unpack_progress(w) };
    uint64_t counter = frame.progress.counter;
    double pause = w->size > MAX_IMMEDIATE_RANKS ? 0.5 : 0.001; /* with many ranks, not every step is sent */
    bool to_all = time - w->sent_to_all >= (w->options.timeout_s < 8 ? w->options.timeout_s / 8 : 1);
    watchdog_table_heartbeat(&w->table, w->rank, &frame.progress, time);
    if (!to_all && (counter == w->sent_counter || time - w->sent_to_coordinators < pause))
        return;
    send_frame(w, &frame, !to_all, NO_RANK, false);
    w->sent_to_coordinators = time;
    w->sent_counter = counter;
    if (to_all)
        w->sent_to_all = time;
}

/* Sends progress at once where that is cheap, so that a rank that stops a moment later is named with its true step and
 * phase. */
static void set_progress(struct watchdog *w, uint64_t packed)
{
    atomic_store(&w->packed_progress, packed);
    atomic_fetch_add(&w->progress_counter, 1);
    if (w->size > MAX_IMMEDIATE_RANKS || pthread_mutex_trylock(&w->mutex) != 0)
        return;
    if (!w->ending)
        send_heartbeat(w, clock_seconds());
    pthread_mutex_unlock(&w->mutex);
}

void watchdog_enter(struct watchdog *w, enum watchdog_phase phase, int64_t step)
{
    int64_t shown = step < 0 ? 0 : step < WATCHDOG_MAX_STEP ? step : WATCHDOG_MAX_STEP;
    if (w)
        set_progress(w, (uint64_t)phase << 56 | (uint64_t)shown);
}

void watchdog_set_waiting(struct watchdog *w, bool waits)
{
    if (w)
        set_progress(w, (atomic_load(&w->packed_progress) & ~WAITS_BIT) | (waits ? WAITS_BIT : 0));
}

/* ---- the end ---- */

static void end_at(struct watchdog *w, enum status code, double when)
{
    if (w->ending)
        return;
    w->ending = true;
    w->end_code = code;
    w->end_at = when;
    pthread_cond_signal(&w->changed);
}

/* Tells all ranks but one to end. */
static void send_end(struct watchdog *w, enum status code, int but)
{
    struct watchdog_frame frame = { .type = WATCHDOG_END, .rank = w->rank, .code = code };
    send_frame(w, &frame, false, but, true);
}

/* ---- failures ---- */

static bool has_peer(const struct watchdog *w, int rank)
{
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank == rank && w->peers[i].fd >= 0)
            return true;
    return false;
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
static int reachable_coordinator(const struct watchdog *w)
{
    for (int i = 0; i < 2; i++) {
        int rank = w->coordinators[i];
        if (rank == w->rank || (has_peer(w, rank) && !watchdog_table_silent(&w->table, rank, clock_seconds())))
            return rank;
    }
    return NO_RANK;
}

static enum report_state request_report(struct watchdog *w, enum status code)
{
    int coordinator = reachable_coordinator(w);
    struct watchdog_frame frame = { .type = WATCHDOG_FAILED, .rank = w->rank, .code = code };
    send_frame(w, &frame, true, NO_RANK, true); /* the other coordinator must not take this rank for lost */
    if (coordinator == w->rank)
        return grant_report(w, w->rank, code) ? REPORT_GRANTED : REPORT_DENIED;
    return coordinator == NO_RANK ? REPORT_GRANTED : REPORT_REQUESTED;
}

bool watchdog_announce_failure(struct watchdog *w, enum status code)
{
    if (!w)
        return true;
    struct timespec verdict = clock_deadline(2), until = clock_deadline(3);
    pthread_mutex_lock(&w->mutex);
    while (code == STATUS_LOST && !w->ending && pthread_cond_timedwait(&w->changed, &w->mutex, &verdict) == 0)
        ; /* a coordinator knows better who was lost, so wait for its decision */
    w->report = w->ending ? REPORT_DENIED : request_report(w, code);
    while (w->report == REPORT_REQUESTED && pthread_cond_timedwait(&w->changed, &w->mutex, &until) == 0)
        ;
    bool granted = w->report != REPORT_DENIED;
    pthread_mutex_unlock(&w->mutex);
    return granted;
}

static void answer_report(struct watchdog *w, enum report_state answer)
{
    if (w->report == REPORT_REQUESTED)
        w->report = answer;
    pthread_cond_signal(&w->changed);
}

/* ---- messages ---- */

/* Handles the first message of a connection. Returns false if the connection must be closed. */
static bool handle_hello(struct watchdog *w, struct watchdog_peer *p, const struct watchdog_frame *f, double time)
{
    struct watchdog_frame welcome = { .type = WATCHDOG_WELCOME, .rank = w->rank };
    if (f->type != WATCHDOG_HELLO || !watchdog_token_equal(f->token, w->token) || f->rank >= w->size ||
        f->rank == w->rank || has_peer(w, f->rank))
        return false;
    memcpy(welcome.token, w->token, WATCHDOG_TOKEN_BYTES);
    watchdog_send(p, &welcome, true);
    p->rank = f->rank;
    w->table.ranks[f->rank].unmonitored = w->table.ranks[f->rank].lost = false;
    w->table.ranks[f->rank].last_heard = w->table.ranks[f->rank].last_progress = time;
    return true;
}

/* Handles any later message. */
static void handle_message(struct watchdog *w, struct watchdog_peer *p, const struct watchdog_frame *f, double time)
{
    struct watchdog_entry *entry = &w->table.ranks[p->rank];
    struct watchdog_frame answer = { .type = WATCHDOG_ANSWER, .rank = w->rank };
    enum status code = (enum status)f->code;
    entry->last_heard = time;
    if (f->type == WATCHDOG_GOODBYE || f->type == WATCHDOG_FAILED || f->type == WATCHDOG_END)
        entry->unmonitored = true;
    switch (f->type) {
    case WATCHDOG_HEARTBEAT: watchdog_table_heartbeat(&w->table, p->rank, &f->progress, time); break;
    case WATCHDOG_FAILED:
        if (w->rank == w->coordinators[0] || watchdog_table_silent(&w->table, w->coordinators[0], time)) {
            answer.code = grant_report(w, p->rank, code);
            watchdog_send(p, &answer, true);
            end_at(w, code, time + 2 * GRACE_S);
        }
        break;
    case WATCHDOG_ANSWER: answer_report(w, f->code ? REPORT_GRANTED : REPORT_DENIED); break;
    case WATCHDOG_END:
        answer_report(w, REPORT_DENIED); /* the rank that may report is not sent this message */
        end_at(w, code, time + GRACE_S);
        break;
    default: break;
    }
}

static void read_messages(struct watchdog *w, struct watchdog_peer *p, double time)
{
    struct watchdog_frame frame;
    for (int got; p->fd >= 0 && (got = watchdog_receive(p, &frame)) != 0;) {
        if (got > 0 && p->rank != NO_RANK) {
            handle_message(w, p, &frame, time);
        } else if (got < 0 || !handle_hello(w, p, &frame, time)) {
            if (p->rank != NO_RANK) {
                w->table.ranks[p->rank].lost = true;
                w->table.ranks[p->rank].last_heard = time;
            }
            watchdog_close(p);
        }
    }
}

/* ---- the thread ---- */

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
    if (w->options.report)
        w->options.report(w->options.context, line);
    else
        log_error_line(line);
    send_end(w, code, NO_RANK);
    end_at(w, code, time + GRACE_S);
}

/* Unlocks the mutex until there is something to read or POLL_S have passed. Returns how many connections were polled;
 * the main thread may add others meanwhile. */
static int wait_for_events(struct watchdog *w)
{
    struct pollfd *peers = w->polls + WATCHDOG_MAX_ADDRESSES;
    int count = w->peer_count;
    for (int i = 0; i < WATCHDOG_MAX_ADDRESSES; i++)
        w->polls[i] = (struct pollfd){ .fd = i < w->listener_count ? w->listeners[i] : -1, .events = POLLIN };
    for (int i = 0; i < count; i++)
        peers[i] = (struct pollfd){ .fd = w->peers[i].fd, .events = POLLIN };
    pthread_mutex_unlock(&w->mutex);
    poll(w->polls, (nfds_t)(WATCHDOG_MAX_ADDRESSES + count), (int)(1000 * POLL_S));
    pthread_mutex_lock(&w->mutex);
    return count;
}

void *watchdog_thread(void *context)
{
    struct watchdog *w = context;
    double last = clock_seconds();
    bool ended = false;
    pthread_setname_np(pthread_self(), "csc-watchdog");
    pthread_mutex_lock(&w->mutex);
    while (!w->stopping) {
        int polled = wait_for_events(w);
        double time = clock_seconds();
        if (time - last > SUSPENDED_S)
            watchdog_table_shift(&w->table, time - last);
        last = time;
        watchdog_accept(w);
        for (int i = 0; i < polled; i++)
            if (w->polls[WATCHDOG_MAX_ADDRESSES + i].revents)
                read_messages(w, &w->peers[i], time);
        if (ended)
            continue;
        send_heartbeat(w, time);
        check_deadlines(w, time);
        if (w->ending && time >= w->end_at && w->report == REPORT_NONE) {
            if (!w->options.end_process)
                _exit(w->end_code);
            w->options.end_process(w->options.context, w->end_code);
            ended = true;
        }
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}
