/* meeting.c - how the watchdogs of the ranks find each other, connect and part.
 * All ranks learn every rank's host and so choose the backup coordinator. Rank 0's token goes to all ranks through the
 * communicator. The coordinators listen, and the other ranks connect to each of them at the first of its addresses
 * that all ranks reach. Meanwhile the coordinators' threads accept the connections. A connection counts only once it
 * has shown the token. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "comm/watchdog/watchdog_internal.h"

enum { MAX_UNAUTHENTICATED = 16 }; /* connections that have not shown the token yet, beside those of the ranks */

/* ---- connections ---- */

static bool add_peer(struct watchdog *w, const struct watchdog_peer *peer)
{
    if (w->peer_count == w->peer_capacity) {
        int capacity = w->peer_capacity ? 2 * w->peer_capacity : 8;
        struct watchdog_peer *all = realloc(w->peers, (size_t)capacity * sizeof *all);
        if (!all)
            return false;
        w->peers = all;
        w->peer_capacity = capacity;
    }
    w->peers[w->peer_count++] = *peer;
    return true;
}

void watchdog_accept(struct watchdog *w, double time)
{
    for (int i = 0; i < w->listener_count; i++) {
        struct watchdog_peer peer = { .rank = NO_RANK, .since = time, .ready = true };
        while ((peer.fd = accept4(w->listeners[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
            int unauthenticated = 0;
            for (int k = 0; k < w->peer_count; k++)
                unauthenticated += w->peers[k].rank == NO_RANK;
            if (unauthenticated >= MAX_UNAUTHENTICATED + w->size || !add_peer(w, &peer))
                watchdog_close(&peer);
        }
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

static void report_default(void *context, const char *line)
{
    (void)context;
    log_error_line(line);
}

static void end_process_default(void *context, enum status code)
{
    (void)context;
    _exit(code);
}

static enum status allocate(struct watchdog **out, const struct comm *comm, const struct watchdog_options *options)
{
    enum status status = STATUS_OK;
    double time = watchdog_now();
    struct watchdog *w = calloc(1, sizeof *w);
    if (!w)
        FAIL(STATUS_NOMEM, "out of memory for the watchdog");
    *out = w;
    w->options = *options;
    if (!w->options.report)
        w->options.report = report_default;
    if (!w->options.end_process)
        w->options.end_process = end_process_default;
    w->rank = comm->rank;
    w->size = comm->size;
    w->coordinators[1] = w->reporter = w->wake[0] = w->wake[1] = NO_RANK;
    pthread_mutex_init(&w->mutex, NULL);
    clock_condition_init(&w->changed);
    w->table = (struct watchdog_table){ .size = w->size,
                                        .timeout = options->timeout_s,
                                        .ranks = calloc((size_t)w->size, sizeof *w->table.ranks) };
    if (!w->table.ranks)
        FAIL(STATUS_NOMEM, "out of memory for the watchdog of %d ranks", w->size);
    for (int i = 0; i < w->size; i++) {
        w->table.ranks[i].unmonitored = i != w->rank; /* until it has connected */
        w->table.ranks[i].last_heard = w->table.ranks[i].last_progress = time;
    }
    if (pipe2(w->wake, O_CLOEXEC) != 0)
        FAIL(STATUS_IO, "cannot create the watchdog's pipe: %s", strerror(errno));
    if (w->rank == 0 && getrandom(w->token, sizeof w->token, 0) != (ssize_t)sizeof w->token)
        FAIL(STATUS_IO, "no random numbers for the watchdog: %s", strerror(errno));
fail:
    return status;
}

/* Signals are left to the main thread. */
static enum status start_thread(struct watchdog *w)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&w->thread, NULL, watchdog_thread, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "cannot start the watchdog's thread: %s",
                             strerror(error));
    w->running = true;
    return STATUS_OK;
}

/* Collects the hosts of all ranks. The backup coordinator is the first rank that is not on the host of rank 0, or else
 * rank 1. */
static enum status exchange_hosts(struct watchdog *w, struct comm *comm)
{
    enum status status = STATUS_OK, own_status = STATUS_OK;
    char own_host[WATCHDOG_HOST_BYTES] = "", *hosts = calloc((size_t)comm->size, WATCHDOG_HOST_BYTES);
    if (gethostname(own_host, sizeof own_host - 1) != 0 || !own_host[0])
        snprintf(own_host, sizeof own_host, "unknown host");
    if (!hosts)
        own_status = status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory for the watchdog of %d ranks",
                                   comm->size);
    TRY(comm_agree(comm, own_status));
    TRY(comm->ops->all_gather(comm, own_host, WATCHDOG_HOST_BYTES, hosts));
    for (int i = comm->size - 1; i >= 0; i--) {
        char *host = hosts + (size_t)i * WATCHDOG_HOST_BYTES;
        snprintf(w->table.ranks[i].host, WATCHDOG_HOST_BYTES, "%.*s", WATCHDOG_HOST_BYTES - 1, host);
        if (i == 1 && w->coordinators[1] == NO_RANK)
            w->coordinators[1] = 1;
        else if (i > 0 && strcmp(host, hosts) != 0)
            w->coordinators[1] = i;
    }
    if (comm->size < 2)
        w->coordinators[1] = NO_RANK;
    w->is_coordinator = w->rank == w->coordinators[0] || w->rank == w->coordinators[1];
    TRY(comm->ops->broadcast(comm, w->token, WATCHDOG_TOKEN_BYTES, 0));
fail:
    free(hosts);
    return status;
}

/* Connects all ranks but the coordinator itself to it, at the first of its addresses that all of them reach. *reached
 * tells whether there is one. */
static enum status connect_to_coordinator(struct watchdog *w, struct comm *comm, int coordinator,
                                          struct watchdog_addresses *addresses, bool *reached)
{
    enum status status = STATUS_OK;
    *reached = false;
    TRY(comm->ops->broadcast(comm, addresses, sizeof *addresses, coordinator));
    int count = addresses->count >= 0 && addresses->count <= WATCHDOG_MAX_ADDRESSES ? addresses->count : 0;
    for (int i = 0; i < count && !*reached; i++) {
        struct watchdog_peer peer = { .fd = -1 };
        bool dials = w->rank != coordinator &&
                     w->rank != 0; /* the backup connects to rank 0, so rank 0 need not connect to it */
        int64_t failed = dials && !watchdog_connect(&addresses->list[i], w->rank, w->token, &peer);
        TRY(comm->ops->all_reduce_max_i64(comm, &failed, 1));
        *reached = !failed;
        pthread_mutex_lock(&w->mutex);
        peer.rank = coordinator;
        if (peer.fd >= 0 && (failed || !add_peer(w, &peer)))
            watchdog_close(&peer);
        else if (peer.fd >= 0)
            w->table.ranks[coordinator].unmonitored = false;
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

static enum status connect_to_coordinators(struct watchdog *w, struct comm *comm)
{
    enum status status = STATUS_OK;
    struct watchdog_addresses own = { 0 };
    bool reached = true;
    if (w->is_coordinator) {
        raise_limit(w->size);
        pthread_mutex_lock(&w->mutex);
        watchdog_listen(comm->local_size == comm->size, &own, w->listeners);
        w->listener_count = own.count;
        pthread_mutex_unlock(&w->mutex);
    }
    for (int i = 0; i < 2 && reached && w->coordinators[i] != NO_RANK; i++) {
        struct watchdog_addresses addresses = own;
        TRY(connect_to_coordinator(w, comm, w->coordinators[i], &addresses, &reached));
    }
    pthread_mutex_lock(&w->mutex);
    close_listeners(w);
    if (!reached) { /* every rank watches only itself */
        for (int i = 0; i < w->peer_count; i++)
            watchdog_close(&w->peers[i]);
        for (int i = 0; i < w->size; i++)
            w->table.ranks[i].unmonitored = i != w->rank;
        w->coordinators[0] = w->rank;
        w->coordinators[1] = NO_RANK;
    }
    pthread_mutex_unlock(&w->mutex);
    if (!reached && comm->rank == 0)
        log_warn(
            "the ranks cannot reach one another over TCP, so the watchdog is off: nobody will name a rank that hangs");
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
        w->table.ranks[i].last_heard = w->table.ranks[i].last_progress = watchdog_now();
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
    struct watchdog_frame bye = { .type = WATCHDOG_GOODBYE };
    if (!w)
        return;
    if (w->running) {
        pthread_mutex_lock(&w->mutex);
        w->stopping = true;
        pthread_mutex_unlock(&w->mutex);
        if (write(w->wake[1], "", 1) < 0)
            status_clear(); /* the thread wakes up by itself soon */
        pthread_join(w->thread, NULL);
    }
    bye.rank = w->rank;
    for (int i = 0; i < w->peer_count; i++) {
        struct watchdog_frame ignored;
        if (w->peers[i].fd < 0)
            continue;
        if (w->peers[i].rank != NO_RANK)
            watchdog_send(&w->peers[i], &bye, true);
        shutdown(w->peers[i].fd, SHUT_WR);
        while (watchdog_receive(&w->peers[i], &ignored) > 0)
            ; /* unread data would reset the connection, and the goodbye could be lost */
        watchdog_close(&w->peers[i]);
    }
    for (int i = 0; i < w->listener_count; i++)
        close(w->listeners[i]);
    for (int i = 0; i < 2; i++)
        if (w->wake[i] >= 0)
            close(w->wake[i]);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->changed);
    free(w->table.ranks);
    free(w->peers);
    free(w);
}
