/* sockets.c - addresses, connections and whole frames over them. */
#include "comm/watchdog/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000 };

static socklen_t length_of(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* A listening socket on a free port of the address, whose port is filled in; -1 if that cannot be. */
static int listen_on(struct sockaddr_storage *address)
{
    socklen_t length = length_of(address);
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)address, length) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)address, &length) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool usable(const struct ifaddrs *i)
{
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
        return false;
    if (i->ifa_addr->sa_family == AF_INET6)
        return !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr);
    return i->ifa_addr->sa_family == AF_INET;
}

static void offer_address(struct watch_offer *offer, int listeners[], const struct sockaddr *address, size_t bytes)
{
    struct sockaddr_storage *place = &offer->list[offer->count];
    if (offer->count == WATCH_ADDRESSES)
        return;
    memset(place, 0, sizeof *place);
    memcpy(place, address, bytes);
    int fd = listen_on(place);
    if (fd >= 0)
        listeners[offer->count++] = fd;
}

void watch_listen(bool one_host, struct watch_offer *offer, int listeners[WATCH_ADDRESSES])
{
    struct ifaddrs *all = NULL;
    struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    *offer = (struct watch_offer){ 0 };
    if (one_host)
        offer_address(offer, listeners, (struct sockaddr *)&loopback, sizeof loopback);
    if (getifaddrs(&all) != 0)
        return;
    for (int six = 0; six < 2; six++) /* IPv4 first */
        for (struct ifaddrs *i = all; i; i = i->ifa_next)
            if (usable(i) && (i->ifa_addr->sa_family == AF_INET6) == six) {
                struct sockaddr_storage address = { 0 };
                size_t bytes = six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
                memcpy(&address, i->ifa_addr, bytes);
                if (six)
                    ((struct sockaddr_in6 *)&address)->sin6_port = 0;
                else
                    ((struct sockaddr_in *)&address)->sin_port = 0;
                offer_address(offer, listeners, (struct sockaddr *)&address, bytes);
            }
    freeifaddrs(all);
}

static bool ready(int fd, short events, int milliseconds)
{
    struct pollfd p = { .fd = fd, .events = events };
    int got;
    do
        got = poll(&p, 1, milliseconds);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

static bool open_connection(int fd, const struct sockaddr_storage *address)
{
    int error = 0, one = 1;
    socklen_t size = sizeof error;
    if (connect(fd, (const struct sockaddr *)address, length_of(address)) != 0 && errno != EINPROGRESS)
        return false;
    if (!ready(fd, POLLOUT, PATIENCE_MS) || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error)
        return false;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0;
}

bool watch_connect(const struct sockaddr_storage *address, int rank, const uint8_t token[WATCH_TOKEN],
                   struct watch_peer *peer)
{
    struct watch_frame hello = { .type = WATCH_HELLO, .rank = rank }, welcome;
    *peer = (struct watch_peer){ .fd = -1, .rank = -1 };
    if (address->ss_family != AF_INET && address->ss_family != AF_INET6)
        return false;
    peer->fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (peer->fd < 0)
        return false;
    memcpy(hello.token, token, WATCH_TOKEN);
    if (open_connection(peer->fd, address)) {
        watch_send(peer, &hello, true);
        for (int got = 0; got == 0 && ready(peer->fd, POLLIN, PATIENCE_MS);) {
            got = watch_receive(peer, &welcome);
            if (got == 1 && welcome.type == WATCH_WELCOME && watch_same_token(welcome.token, token))
                return true;
        }
    }
    watch_close(peer);
    return false;
}

bool watch_same_token(const uint8_t a[WATCH_TOKEN], const uint8_t b[WATCH_TOKEN])
{
    uint8_t difference = 0;
    for (int i = 0; i < WATCH_TOKEN; i++)
        difference |= a[i] ^ b[i];
    return !difference;
}

/* Sends what is left of the last frame; true if nothing is left. */
static bool flush(struct watch_peer *p)
{
    while (p->out_have > 0) {
        ssize_t sent = send(p->fd, p->out, (size_t)p->out_have, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        p->out_have -= (int)sent;
        memmove(p->out, p->out + sent, (size_t)p->out_have);
    }
    return true;
}

void watch_send(struct watch_peer *p, const struct watch_frame *frame, bool must_arrive)
{
    if (p->fd < 0)
        return;
    if (!flush(p) && !(must_arrive && ready(p->fd, POLLOUT, 100) && flush(p)))
        return;
    watch_encode(frame, p->out);
    p->out_have = WATCH_FRAME;
    if (flush(p))
        return;
    if (must_arrive && ready(p->fd, POLLOUT, 100))
        flush(p);
    else if (p->out_have == WATCH_FRAME && !must_arrive)
        p->out_have = 0; /* nothing of it went out: a later one says more */
}

int watch_receive(struct watch_peer *p, struct watch_frame *frame)
{
    for (;;) {
        ssize_t got = recv(p->fd, p->in + p->in_have, (size_t)(WATCH_FRAME - p->in_have), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (got <= 0)
            return -1;
        p->in_have += (int)got;
        if (p->in_have < WATCH_FRAME)
            continue;
        p->in_have = 0;
        return watch_decode(p->in, frame) ? 1 : -1;
    }
}

void watch_close(struct watch_peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}
