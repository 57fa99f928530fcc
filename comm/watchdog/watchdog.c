/* watchdog.c - the watching thread: sends this rank's place, hears the others', and ends the job when its turn has come
 * to judge. Every look takes in new connections, reads whole frames of all, sends a beat, judges; the main thread sends
 * a beat itself where that is cheap, and asks a hub before it speaks of a failure. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "comm/watchdog/watchdog_internal.h"

enum { PROMPT = 64 }; /* ranks up to which every move is sent at once */
#define STRANGER_S  5.0
#define TURN_S      0.05 /* between two looks; what has moved since is sent */
#define GRACE_S     1.0  /* between the verdict and the end: frames must leave, the one who speaks must speak */
#define SUSPENDED_S 2.0  /* a look that comes so late means that this process was stopped */

double watch_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the main thread's place ---- */

static uint64_t pack(enum watch_phase phase, bool waits, int64_t step)
{
    return (uint64_t)phase << 56 | (uint64_t)waits << 48 | (uint64_t)step;
}

static struct watch_place unpack(struct watch *w)
{
    uint64_t beat = atomic_load(&w->beat), place = atomic_load(&w->place);
    return (struct watch_place){ (enum watch_phase)(place >> 56), place >> 48 & 1,
                                 (int64_t)(place & (((uint64_t)1 << 48) - 1)), beat };
}

static bool is_hub(const struct watch *w, int rank)
{
    return rank == w->hubs[0] || rank == w->hubs[1];
}

/* To all as a sign of life, and to the hubs whenever something has moved. */
static void send_beat(struct watch *w, double time)
{
    struct watch_frame frame = { .type = WATCH_BEAT, .rank = w->rank, .place = unpack(w) };
    struct sent *sent = &w->sent;
    watch_table_beat(&w->table, w->rank, &frame.place, time);
    double pause = w->size > PROMPT ? 0.5 : 0.001; /* a hub of thousands need not hear of every step */
    bool all = time - sent->all >= (w->options.timeout_s < 8 ? w->options.timeout_s / 8 : 1);
    bool hubs = all || (frame.place.beat != sent->beat && time - sent->hubs >= pause);
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank != NOBODY && (is_hub(w, w->peers[i].rank) ? hubs : all))
            watch_send(&w->peers[i], &frame, false);
    if (all)
        sent->all = time;
    if (hubs) {
        sent->hubs = time;
        sent->beat = frame.place.beat;
    }
}

/* At once where that is cheap, so that a rank which stops a moment later is named with its true place. */
static void moved(struct watch *w)
{
    atomic_fetch_add(&w->beat, 1);
    if (w->size == 1 || w->size > PROMPT || pthread_mutex_trylock(&w->mutex) != 0)
        return;
    if (w->ready && !w->ending)
        send_beat(w, watch_now());
    pthread_mutex_unlock(&w->mutex);
}

void watch_at(struct watch *w, enum watch_phase phase, int64_t step)
{
    if (!w)
        return;
    atomic_store(&w->place, pack(phase, false, step < 0 ? 0 : step < WATCH_MOST_STEP ? step : WATCH_MOST_STEP));
    moved(w);
}

void watch_waits(struct watch *w, bool waits)
{
    if (!w)
        return;
    uint64_t place = atomic_load(&w->place), bit = (uint64_t)1 << 48;
    atomic_store(&w->place, waits ? place | bit : place & ~bit);
    moved(w);
}

/* ---- the end ---- */

static void end_at(struct watch *w, enum status code, double when)
{
    if (w->ending)
        return;
    w->ending = true;
    pthread_cond_signal(&w->answered);
    w->end_code = code;
    w->end_at = when;
}

static void tell_all(struct watch *w, enum status code, int but)
{
    struct watch_frame frame = { .type = WATCH_END, .rank = w->rank, .code = code };
    if (w->told)
        return;
    w->told = true;
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank != NOBODY && w->peers[i].rank != but)
            watch_send(&w->peers[i], &frame, true);
}

/* ---- failures ---- */

static struct watch_peer *peer_of(struct watch *w, int rank)
{
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank == rank && w->peers[i].fd >= 0)
            return &w->peers[i];
    return NULL;
}

/* A hub decides who speaks of a failure: the first, unless a verdict has been reached already. */
static bool may_speak(struct watch *w, int rank, enum status code)
{
    if (w->speaker != NOBODY || w->ending)
        return false;
    w->speaker = rank;
    tell_all(w, code, rank);
    return true;
}

/* The hub that this rank turns to: the first that can be heard; NOBODY if there is none. */
static int arbiter(struct watch *w)
{
    for (int i = 0; i < 2; i++)
        if (w->hubs[i] == w->rank ||
            (w->hubs[i] != NOBODY && peer_of(w, w->hubs[i]) && !watch_table_silent(&w->table, w->hubs[i], watch_now())))
            return w->hubs[i];
    return NOBODY;
}

static void ask(struct watch *w)
{
    int hub = arbiter(w);
    struct watch_frame frame = { .type = WATCH_FAILED, .rank = w->rank, .code = w->failed_code };
    for (int i = 0; i < w->peer_count; i++) /* the other hub need not wonder where this rank went */
        if (w->peers[i].rank != NOBODY && (w->peers[i].rank == w->hubs[0] || w->peers[i].rank == w->hubs[1]))
            watch_send(&w->peers[i], &frame, true);
    if (hub == w->rank)
        w->asked = may_speak(w, w->rank, w->failed_code) ? SPEAK : QUIET;
    else if (hub == NOBODY)
        w->asked = SPEAK;
    if (w->asked != ASKED)
        pthread_cond_signal(&w->answered);
}

bool watch_failed(struct watch *w, enum status code)
{
    if (!w)
        return true;
    struct timespec verdict = clock_after(2), until = clock_after(3);
    pthread_mutex_lock(&w->mutex);
    while (code == STATUS_LOST && !w->ending && pthread_cond_timedwait(&w->answered, &w->mutex, &verdict) == 0)
        ; /* whom it has lost, a hub knows better */
    w->failed_code = code;
    w->asked = w->ending ? QUIET : ASKED;
    if (w->asked == ASKED)
        ask(w);
    while (w->asked == ASKED && pthread_cond_timedwait(&w->answered, &w->mutex, &until) == 0)
        ;
    bool speak = w->asked != QUIET;
    pthread_mutex_unlock(&w->mutex);
    return speak;
}

/* ---- frames ---- */

/* The first frame of a connection. */
static bool admit(struct watch *w, struct watch_peer *p, const struct watch_frame *f, double time)
{
    struct watch_frame welcome = { .type = WATCH_WELCOME, .rank = w->rank };
    if (f->type != WATCH_HELLO || !watch_same_token(f->token, w->token) || f->rank >= w->size || f->rank == w->rank ||
        peer_of(w, f->rank))
        return false;
    memcpy(welcome.token, w->token, WATCH_TOKEN);
    watch_send(p, &welcome, true);
    p->rank = f->rank;
    w->table.ranks[f->rank].left = w->table.ranks[f->rank].lost = false;
    w->table.ranks[f->rank].heard = w->table.ranks[f->rank].moved = time;
    return true;
}

/* False: no rank of this job would say that. */
static bool heed(struct watch *w, struct watch_peer *p, const struct watch_frame *f, double time)
{
    struct watch_entry *entry = &w->table.ranks[p->rank];
    struct watch_frame answer = { .type = WATCH_ANSWER, .rank = w->rank };
    if (f->rank != p->rank)
        return false;
    entry->heard = time;
    switch (f->type) {
    case WATCH_BEAT: watch_table_beat(&w->table, p->rank, &f->place, time); return true;
    case WATCH_BYE: entry->left = true; return true;
    case WATCH_FAILED:
        entry->left = true;
        if (!w->hub || f->code == STATUS_OK)
            return false;
        if (w->rank == w->hubs[0] || watch_table_silent(&w->table, w->hubs[0], time)) {
            answer.code = may_speak(w, p->rank, (enum status)f->code);
            watch_send(p, &answer, true);
            end_at(w, (enum status)f->code, time + 2 * GRACE_S);
        }
        return true;
    case WATCH_ANSWER:
        if (w->asked != ASKED || f->code > 1 || !is_hub(w, p->rank))
            return false;
        w->asked = f->code ? SPEAK : QUIET;
        pthread_cond_signal(&w->answered);
        return true;
    case WATCH_END:
        if (!is_hub(w, p->rank) || f->code == STATUS_OK)
            return false;
        entry->left = true;
        if (w->asked == ASKED) { /* somebody else speaks: who may is not told this */
            w->asked = QUIET;
            pthread_cond_signal(&w->answered);
        }
        end_at(w, (enum status)f->code, time + GRACE_S);
        return true;
    default: return false;
    }
}

static void lose(struct watch *w, struct watch_peer *p, double time)
{
    if (p->rank != NOBODY) {
        w->table.ranks[p->rank].lost = true;
        w->table.ranks[p->rank].heard = time;
        if (w->asked == ASKED && p->rank == arbiter(w)) { /* it will not answer */
            w->asked = SPEAK;
            pthread_cond_signal(&w->answered);
        }
    }
    watch_close(p);
}

static void listen_to(struct watch *w, struct watch_peer *p, double time)
{
    struct watch_frame frame;
    for (int got; p->ready && p->fd >= 0 && (got = watch_receive(p, &frame)) != 0;) {
        bool good = got > 0 && (p->rank == NOBODY ? admit(w, p, &frame, time) : heed(w, p, &frame, time));
        if (!good)
            lose(w, p, time);
    }
    if (p->fd >= 0 && p->rank == NOBODY && time - p->since > STRANGER_S)
        watch_close(p);
}

/* ---- the thread ---- */

static void forget_closed(struct watch *w)
{
    int kept = 0;
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].fd >= 0)
            w->peers[kept++] = w->peers[i];
    w->peer_count = kept;
}

/* Rank 0 judges; the deputy if rank 0 is silent; any rank if all hubs have been silent for a while longer, one after
 * another, since the first to end takes the others with it. */
static bool its_turn(struct watch *w, double time)
{
    double earlier = time - 2 - (w->rank < 60 ? 0.05 * w->rank : 3);
    if (w->rank == w->hubs[0])
        return true;
    if (w->rank == w->hubs[1])
        return watch_table_silent(&w->table, w->hubs[0], time);
    return watch_table_silent(&w->table, w->hubs[0], earlier) && watch_table_silent(&w->table, w->hubs[1], earlier);
}

static void judge(struct watch *w, double time)
{
    char line[512];
    if (!w->ready || w->ending || w->speaker != NOBODY || w->asked != NOT_ASKED || !its_turn(w, time))
        return;
    enum status code = watch_table_judge(&w->table, time, line);
    if (code == STATUS_OK)
        return;
    w->options.say(w->options.context, line);
    tell_all(w, code, NOBODY);
    end_at(w, code, time + GRACE_S);
}

/* Without the lock held: what there is to hear, or the time for the next look. */
static void look(struct watch *w, struct pollfd **polls, int *room)
{
    int count = 0, needed = w->peer_count + w->listener_count + 1;
    if (needed > *room) {
        struct pollfd *more = realloc(*polls, (size_t)(2 * needed) * sizeof *more);
        if (more) {
            *polls = more;
            *room = 2 * needed;
        }
    }
    if (*room)
        (*polls)[count++] = (struct pollfd){ .fd = w->wake[0], .events = POLLIN };
    for (int i = 0; i < w->listener_count && count < *room; i++)
        (*polls)[count++] = (struct pollfd){ .fd = w->listeners[i], .events = POLLIN };
    int first = count;
    for (int i = 0; i < w->peer_count && count < *room; i++)
        (*polls)[count++] = (struct pollfd){ .fd = w->peers[i].fd, .events = POLLIN };
    pthread_mutex_unlock(&w->mutex);
    poll(*polls, (nfds_t)count, (int)(1000 * TURN_S));
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->peer_count; i++) /* those that the main thread has added since are new */
        w->peers[i].ready = first + i >= count || (*polls)[first + i].revents;
}

void *watch_thread(void *context)
{
    struct watch *w = context;
    struct pollfd *polls = NULL;
    int room = 0;
    double last = watch_now();
    bool ended = false;
    pthread_setname_np(pthread_self(), "csc-watch");
    pthread_mutex_lock(&w->mutex);
    while (!w->stopping) {
        look(w, &polls, &room);
        double time = watch_now();
        if (time - last > SUSPENDED_S)
            watch_table_shift(&w->table, time - last);
        last = time;
        watch_accept(w, time);
        for (int i = 0; i < w->peer_count; i++)
            listen_to(w, &w->peers[i], time);
        forget_closed(w);
        if (ended)
            continue;
        send_beat(w, time);
        judge(w, time);
        if (w->ending && time >= w->end_at && w->asked == NOT_ASKED) {
            w->options.end(w->options.context, w->end_code);
            ended = true; /* in a test */
        }
    }
    pthread_mutex_unlock(&w->mutex);
    free(polls);
    return NULL;
}
