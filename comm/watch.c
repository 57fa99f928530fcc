/* watch.c - the watching thread: sends this rank's place, hears the others', and ends the job when its turn has come to judge.
 * One mutex guards all but the place, which the main thread writes without waiting. Threads: main calls the functions of
 * watch.h; the watching thread does the rest and never calls the communicator. */
#include "comm/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "comm/watch_net.h"
#include "comm/watch_table.h"

enum {
    NOBODY = -1,
    STRANGERS = 16, /* connections without the token that are listened to at once */
    PROMPT = 64,    /* ranks up to which every move is sent at once */
};
#define STRANGER_S 5.0
#define TURN_S 0.05                  /* between two looks; what has moved since is sent */
#define GRACE_S 1.0                  /* between the verdict and the end: frames must leave, the one who speaks must speak */
#define SUSPENDED_S 2.0              /* a look that comes so late means that this process was stopped */

enum asked { NOT_ASKED, ASKED, SPEAK, QUIET };

struct sent { /* beats, when last */
    double all, hubs;
    uint64_t beat;
};

struct watch {
    struct watch_options options;
    int rank, size, hubs[2];     /* hubs: rank 0 and the deputy, or NOBODY */
    bool hub;
    uint8_t token[WATCH_TOKEN];
    _Atomic uint64_t place, beat; /* main thread's; place: phase << 56 | waits << 48 | step */
    pthread_t thread;
    bool running;
    int wake[2];                 /* a pipe: ends a look early */

    pthread_mutex_t mutex;       /* guards all below */
    pthread_cond_t answered;
    struct watch_table table;
    struct watch_peer *peers;    /* a hub's ranks and strangers; everybody's hubs */
    int peer_count, peer_room;
    int listeners[WATCH_ADDRESSES], listener_count;
    struct sent sent;
    bool ready;                  /* all are connected: judging may begin */
    bool stopping, ending, told; /* told: END was sent; ending: this process ends at end_at */
    double end_at;
    enum status end_code;
    enum asked asked;
    enum status failed_code;
    int speaker;                 /* the first rank that failed, NOBODY */
};

static double now(void)
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
        send_beat(w, now());
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

static void say_default(void *context, const char *line)
{
    (void)context;
    log_alarm(line);
}

static void end_default(void *context, enum status code)
{
    (void)context;
    _exit(code);
}

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
        if (w->hubs[i] == w->rank || (w->hubs[i] != NOBODY && peer_of(w, w->hubs[i]) &&
                                      !watch_table_silent(&w->table, w->hubs[i], now())))
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
    struct timespec until;
    if (!w)
        return true;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 3;
    pthread_mutex_lock(&w->mutex);
    struct timespec verdict = until;
    verdict.tv_sec -= 1;
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
    case WATCH_BEAT:
        watch_table_beat(&w->table, p->rank, &f->place, time);
        return true;
    case WATCH_BYE:
        entry->left = true;
        return true;
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
        end_at(w, (enum status)f->code, time + GRACE_S);
        return true;
    default:
        return false;
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

/* ---- connections ---- */

static bool add_peer(struct watch *w, const struct watch_peer *peer)
{
    if (w->peer_count == w->peer_room) {
        int room = w->peer_room ? 2 * w->peer_room : 8;
        struct watch_peer *all = realloc(w->peers, (size_t)room * sizeof *all);
        if (!all)
            return false;
        w->peers = all;
        w->peer_room = room;
    }
    w->peers[w->peer_count++] = *peer;
    return true;
}

static void accept_all(struct watch *w, double time)
{
    for (int i = 0; i < w->listener_count; i++) {
        struct watch_peer peer = { .rank = NOBODY, .since = time, .ready = true };
        while ((peer.fd = accept4(w->listeners[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
            int strangers = 0;
            for (int k = 0; k < w->peer_count; k++)
                strangers += w->peers[k].rank == NOBODY;
            if (strangers >= STRANGERS + w->size || !add_peer(w, &peer))
                watch_close(&peer);
        }
    }
}

static void forget_closed(struct watch *w)
{
    int kept = 0;
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].fd >= 0)
            w->peers[kept++] = w->peers[i];
    w->peer_count = kept;
}

static void close_listeners(struct watch *w)
{
    for (int i = 0; i < w->listener_count; i++)
        close(w->listeners[i]);
    w->listener_count = 0;
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank == NOBODY)
            watch_close(&w->peers[i]);
}

/* ---- the thread ---- */

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

static void *thread_main(void *context)
{
    struct watch *w = context;
    struct pollfd *polls = NULL;
    int room = 0;
    double last = now();
    bool ended = false;
    pthread_setname_np(pthread_self(), "csc-watch");
    pthread_mutex_lock(&w->mutex);
    while (!w->stopping) {
        look(w, &polls, &room);
        double time = now();
        if (time - last > SUSPENDED_S)
            watch_table_shift(&w->table, time - last);
        last = time;
        accept_all(w, time);
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

/* Signals are the main thread's. */
static enum status start_thread(struct watch *w)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&w->thread, NULL, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "cannot start the watchdog's thread: %s", strerror(error));
    w->running = true;
    return STATUS_OK;
}

/* ---- start, collective ---- */

static enum status allocate(struct watch **out, const struct comm *comm, const struct watch_options *options)
{
    enum status status = STATUS_OK;
    double time = now();
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        FAIL(STATUS_NOMEM, "out of memory for the watchdog");
    *out = w;
    w->options = *options;
    if (!w->options.say)
        w->options.say = say_default;
    if (!w->options.end)
        w->options.end = end_default;
    w->rank = comm->rank;
    w->size = comm->size;
    w->hubs[1] = w->speaker = w->wake[0] = w->wake[1] = NOBODY;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->answered, NULL);
    w->table = (struct watch_table){ .size = w->size, .timeout = options->timeout_s,
                                     .ranks = calloc((size_t)w->size, sizeof *w->table.ranks) };
    if (!w->table.ranks)
        FAIL(STATUS_NOMEM, "out of memory for the watchdog of %d ranks", w->size);
    for (int i = 0; i < w->size; i++) {
        w->table.ranks[i].left = i != w->rank; /* until it is heard */
        w->table.ranks[i].heard = w->table.ranks[i].moved = time;
    }
    if (pipe2(w->wake, O_CLOEXEC) != 0)
        FAIL(STATUS_IO, "the watchdog's pipe: %s", strerror(errno));
    if (w->rank == 0 && getrandom(w->token, sizeof w->token, 0) != (ssize_t)sizeof w->token)
        FAIL(STATUS_IO, "no random numbers for the watchdog: %s", strerror(errno));
fail:
    return status;
}

/* Every rank's host, and the first rank that is not on rank 0's. */
static enum status meet(struct watch *w, struct comm *comm)
{
    enum status status = STATUS_OK, mine = STATUS_OK;
    char own[WATCH_HOST] = "", *hosts = calloc((size_t)comm->size, WATCH_HOST);
    if (gethostname(own, sizeof own - 1) != 0 || !own[0])
        snprintf(own, sizeof own, "unknown host");
    if (!hosts)
        mine = status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory for the watchdog of %d ranks", comm->size);
    TRY(comm_agree(comm, mine));
    TRY(comm->ops->gather(comm, own, WATCH_HOST, hosts));
    for (int i = comm->size - 1; i >= 0; i--) {
        char *host = hosts + (size_t)i * WATCH_HOST;
        snprintf(w->table.ranks[i].host, WATCH_HOST, "%.*s", WATCH_HOST - 1, host);
        if (i == 1 && w->hubs[1] == NOBODY)
            w->hubs[1] = 1;
        else if (i > 0 && strcmp(host, hosts) != 0)
            w->hubs[1] = i;
    }
    if (comm->size < 2)
        w->hubs[1] = NOBODY;
    w->hub = w->rank == w->hubs[0] || w->rank == w->hubs[1];
    TRY(comm->ops->broadcast(comm, w->token, WATCH_TOKEN, 0));
fail:
    free(hosts);
    return status;
}

/* All ranks but the hub itself connect to it at the first of its addresses that all of them reach. *reached: there is one. */
static enum status connect_all(struct watch *w, struct comm *comm, int hub, struct watch_offer *offer, bool *reached)
{
    enum status status = STATUS_OK;
    *reached = false;
    TRY(comm->ops->broadcast(comm, offer, sizeof *offer, hub));
    int count = offer->count >= 0 && offer->count <= WATCH_ADDRESSES ? offer->count : 0;
    for (int i = 0; i < count && !*reached; i++) {
        struct watch_peer peer = { .fd = -1 };
        bool dials = w->rank != hub && w->rank != 0; /* rank 0 and the deputy share one connection */
        int64_t failed = dials && !watch_connect(&offer->list[i], w->rank, w->token, &peer);
        TRY(comm->ops->max_i64(comm, &failed, 1));
        *reached = !failed;
        pthread_mutex_lock(&w->mutex);
        peer.rank = hub;
        if (peer.fd >= 0 && (failed || !add_peer(w, &peer)))
            watch_close(&peer);
        else if (peer.fd >= 0)
            w->table.ranks[hub].left = false;
        pthread_mutex_unlock(&w->mutex);
    }
fail:
    return status;
}

/* A hub of thousands needs as many descriptors. */
static void raise_limit(int size)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)size + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < needed) {
        limit.rlim_cur = needed < limit.rlim_max ? needed : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static enum status connect_hubs(struct watch *w, struct comm *comm)
{
    enum status status = STATUS_OK;
    struct watch_offer own = { 0 };
    bool reached = true;
    if (w->hub) {
        raise_limit(w->size);
        pthread_mutex_lock(&w->mutex);
        watch_listen(comm->local_size == comm->size, &own, w->listeners);
        w->listener_count = own.count;
        pthread_mutex_unlock(&w->mutex);
    }
    for (int i = 0; i < 2 && reached && w->hubs[i] != NOBODY; i++) {
        struct watch_offer offer = own;
        TRY(connect_all(w, comm, w->hubs[i], &offer, &reached));
    }
    pthread_mutex_lock(&w->mutex);
    close_listeners(w);
    if (!reached) { /* each for itself */
        for (int i = 0; i < w->peer_count; i++)
            watch_close(&w->peers[i]);
        for (int i = 0; i < w->size; i++)
            w->table.ranks[i].left = i != w->rank;
        w->hubs[0] = w->rank;
        w->hubs[1] = NOBODY;
    }
    pthread_mutex_unlock(&w->mutex);
    if (!reached && comm->rank == 0)
        log_warn("the ranks do not reach one another over TCP: no watchdog between them; a rank that hangs must be found by "
                 "hand");
fail:
    return status;
}

enum status watch_start(struct watch **out, struct comm *comm, const struct watch_options *options)
{
    enum status status = STATUS_OK;
    struct watch *w = NULL;
    TRY(comm_agree(comm, allocate(&w, comm, options)));
    TRY(meet(w, comm));
    TRY(comm_agree(comm, start_thread(w)));
    if (comm->size > 1)
        TRY(connect_hubs(w, comm));
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->size; i++)
        w->table.ranks[i].heard = w->table.ranks[i].moved = now();
    w->ready = true;
    pthread_mutex_unlock(&w->mutex);
    *out = w;
    return STATUS_OK;
fail:
    watch_stop(w);
    return status;
}

void watch_stop(struct watch *w)
{
    struct watch_frame bye = { .type = WATCH_BYE };
    if (!w)
        return;
    if (w->running) {
        pthread_mutex_lock(&w->mutex);
        w->stopping = true;
        pthread_mutex_unlock(&w->mutex);
        if (write(w->wake[1], "", 1) < 0)
            status_clear(); /* it looks by itself soon */
        pthread_join(w->thread, NULL);
    }
    bye.rank = w->rank;
    for (int i = 0; i < w->peer_count; i++) {
        struct watch_frame ignored;
        if (w->peers[i].fd < 0)
            continue;
        if (w->peers[i].rank != NOBODY)
            watch_send(&w->peers[i], &bye, true);
        shutdown(w->peers[i].fd, SHUT_WR);
        while (watch_receive(&w->peers[i], &ignored) > 0)
            ; /* what is unread would reset the connection, and the goodbye might be lost */
        watch_close(&w->peers[i]);
    }
    for (int i = 0; i < w->listener_count; i++)
        close(w->listeners[i]);
    for (int i = 0; i < 2; i++)
        if (w->wake[i] >= 0)
            close(w->wake[i]);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->answered);
    free(w->table.ranks);
    free(w->peers);
    free(w);
}
