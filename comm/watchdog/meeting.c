/* meeting.c - how the watchdogs of the ranks find each other, connect and part.
 * All ranks learn every rank's host and so choose the backup coordinator. Rank 0's token goes to all ranks through the
 * communicator. The coordinators listen, and the other ranks connect to each of them at the first of its addresses
 * that all ranks reach. Meanwhile the coordinators' threads accept the connections. A connection counts only once it
 * has shown the token. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/host.h"
#include "base/log.h"
#include "base/thread.h"
#include "comm/watchdog/watchdog_internal.h"

/* ---- connections ---- */

bool watchdog_is_coordinator(const struct watchdog *w, int rank)
{
    return rank != NO_RANK && (rank == w->coordinators[0] || rank == w->coordinators[1]);
}

/* Keeps an open connection, or closes it if there are too many. */
static void add_peer(struct watchdog *w, struct watchdog_peer *peer)
{
    int i = 0;
    while (i < w->peer_count && w->peers[i].fd >= 0)
        i++;
    if (i == w->peer_capacity) {
        watchdog_close(peer);
        return;
    }
    w->peers[i] = *peer;
    if (i == w->peer_count)
        w->peer_count++;
}

void watchdog_accept(struct watchdog *w)
{
    for (int i = 0; i < w->listener_count; i++) {
        struct watchdog_peer peer = { .rank = NO_RANK };
        while ((peer.fd = accept4(w->listeners[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
            add_peer(w, &peer);
    }
}

static void close_listeners(struct watchdog *w)
{
    for (int i = 0; i < w->listener_count; i++)
        close(w->listeners[i]);
    w->listener_count = 0;
    for (int i = 0; i < w->peer_count; i++)
        if (w->peers[i].rank == NO_RANK)
            watchdog_close(&w->peers[i]);
}

/* ---- start (collective) ---- */

static enum status allocate(struct watchdog **out, const struct comm *comm, const struct watchdog_options *options)
{
    enum status status = STATUS_OK;
    enum { STRANGERS = 16 }; /* connections that never show the token */
    struct watchdog *w = calloc(1, sizeof *w);
    if (!w)
        FAIL(STATUS_NOMEM, "out of memory for the watchdog");
    *out = w;
    w->options = *options;
    w->rank = comm->rank;
    w->size = comm->size;
    w->coordinators[1] = w->reporter = NO_RANK;
    pthread_mutex_init(&w->mutex, NULL);
    clock_condition_init(&w->changed);
    w->peer_capacity = 2 * w->size + STRANGERS;
    w->peers = calloc((size_t)w->peer_capacity, sizeof *w->peers);
    w->polls = calloc((size_t)(w->peer_capacity + WATCHDOG_MAX_ADDRESSES), sizeof *w->polls);
    w->table.size = w->size;
    w->table.timeout = options->timeout_s;
    w->table.ranks = calloc((size_t)w->size, sizeof *w->table.ranks);
    if (!w->peers || !w->polls || !w->table.ranks)
        FAIL(STATUS_NOMEM, "out of memory for the watchdog of %d ranks", w->size);
    if (w->rank == 0 && getrandom(w->token, sizeof w->token, 0) != (ssize_t)sizeof w->token)
        FAIL(STATUS_IO, "no random numbers for the watchdog: %s", strerror(errno));
fail:
    return status;
}

/* Collects the hosts of all ranks. The backup coordinator is the first rank that is not on the host of rank 0, or else
 * rank 1. */
static enum status exchange_hosts(struct watchdog *w, struct comm *comm)
{
    enum status status = STATUS_OK;
    struct watchdog_entry own = { .unmonitored = true }; /* until it has connected */
    const struct watchdog_entry *ranks = w->table.ranks;
    int backup = 1;
    host_name(own.host, sizeof own.host);
    TRY(comm->ops->all_gather(comm, &own, sizeof own, w->table.ranks));
    w->table.ranks[w->rank].unmonitored = false;
    while (backup < w->size && strcmp(ranks[backup].host, ranks[0].host) == 0)
        backup++;
    if (w->size > 1)
        w->coordinators[1] = backup < w->size ? backup : 1;
    TRY(comm->ops->broadcast(comm, w->token, WATCHDOG_TOKEN_BYTES, 0));
fail:
    return status;
}

static enum status start_thread(struct watchdog *w)
{
    int error = thread_start(&w->thread, watchdog_thread, w);
    w->running = !error;
    return error ? status_report(STATUS_NOMEM, __FILE__, __LINE__, "cannot start the watchdog's thread: %s",
                                 strerror(error))
                 : STATUS_OK;
}

/* Connects all ranks but the coordinator itself to it, at the first of its addresses that all of them reach. *reached
 * tells whether there is one. */
static enum status connect_to_coordinator(struct watchdog *w, struct comm *comm, int coordinator,
                                          struct watchdog_addresses addresses, bool *reached)
{
    enum status status = STATUS_OK;
    bool dials = w->rank != coordinator && w->rank != 0; /* the backup connects to rank 0, so rank 0 need not dial */
    *reached = false;
    TRY(comm->ops->broadcast(comm, &addresses, sizeof addresses, coordinator));
    for (int i = 0; i < addresses.count && !*reached; i++) {
        struct watchdog_peer peer = { .fd = -1 };
        int64_t failed = dials && !watchdog_connect(&addresses.list[i], w->rank, w->token, &peer);
        TRY(comm->ops->all_reduce_max_i64(comm, &failed, 1));
        *reached = !failed;
        if (failed)
            watchdog_close(&peer);
        if (peer.fd < 0)
            continue;
        pthread_mutex_lock(&w->mutex);
        peer.rank = coordinator;
        add_peer(w, &peer);
        w->table.ranks[coordinator].unmonitored = false;
        w->table.ranks[coordinator].last_heard = clock_seconds();
        pthread_mutex_unlock(&w->mutex);
    }
fail:
    return status;
}

/* A coordinator of thousands of ranks needs as many file descriptors. */
static void raise_limit(int size)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)size + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < needed) {
        limit.rlim_cur = needed < limit.rlim_max ? needed : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Every rank watches only itself. */
static void watch_alone(struct watchdog *w)
{
    for (int i = 0; i < w->peer_count; i++)
        watchdog_close(&w->peers[i]);
    for (int i = 0; i < w->size; i++)
        w->table.ranks[i].unmonitored = i != w->rank;
    w->coordinators[0] = w->rank;
    w->coordinators[1] = NO_RANK;
    if (w->rank == 0)
        log_warn("the ranks cannot reach one another over TCP, so the watchdog is off: nobody will name a rank that "
                 "hangs");
}

static enum status connect_to_coordinators(struct watchdog *w, struct comm *comm)
{
    enum status status = STATUS_OK;
    struct watchdog_addresses own = { 0 };
    bool reached = true;
    if (watchdog_is_coordinator(w, w->rank)) {
        raise_limit(w->size);
        pthread_mutex_lock(&w->mutex);
        watchdog_listen(comm->local_size == comm->size, &own, w->listeners);
        w->listener_count = own.count;
        pthread_mutex_unlock(&w->mutex);
    }
    for (int i = 0; i < 2 && reached; i++)
        TRY(connect_to_coordinator(w, comm, w->coordinators[i], own, &reached));
    pthread_mutex_lock(&w->mutex);
    close_listeners(w);
    if (!reached)
        watch_alone(w);
    pthread_mutex_unlock(&w->mutex);
fail:
    return status;
}

enum status watchdog_start(struct watchdog **out, struct comm *comm, const struct watchdog_options *options)
{
    enum status status = STATUS_OK;
    struct watchdog *w = NULL;
    TRY(comm_agree(comm, allocate(&w, comm, options)));
    TRY(exchange_hosts(w, comm));
    TRY(comm_agree(comm, start_thread(w)));
    if (comm->size > 1)
        TRY(connect_to_coordinators(w, comm));
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->size; i++)
        w->table.ranks[i].last_heard = w->table.ranks[i].last_progress = clock_seconds();
    w->ready = true;
    pthread_mutex_unlock(&w->mutex);
    *out = w;
    return STATUS_OK;
fail:
    watchdog_stop(w);
    return status;
}

/* ---- parting ---- */

void watchdog_stop(struct watchdog *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->stopping = true; /* the thread notices at its next round */
    pthread_mutex_unlock(&w->mutex);
    if (w->running)
        pthread_join(w->thread, NULL);
    close_listeners(w);
    for (int i = 0; i < w->peer_count; i++) {
        struct watchdog_frame bye = { .type = WATCHDOG_GOODBYE, .rank = w->rank }, ignored;
        if (w->peers[i].fd < 0)
            continue;
        watchdog_send(&w->peers[i], &bye, true);
        shutdown(w->peers[i].fd, SHUT_WR);
        while (watchdog_receive(&w->peers[i], &ignored) > 0)
            ; /* unread data would reset the connection, and the goodbye could be lost */
        watchdog_close(&w->peers[i]);
    }
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->changed);
    free(w->table.ranks);
    free(w->peers);
    free(w->polls);
    free(w);
}
