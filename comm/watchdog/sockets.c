/* sockets.c - addresses, connections, and whole frames over them. */
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

enum { CONNECT_MS = 5000 };

static socklen_t length_of(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* Listens on a free port of the address and fills the port in. Returns -1 if that fails. */
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

static void add_address(struct watchdog_addresses *addresses, int listeners[], const struct sockaddr *address,
                        size_t bytes)
{
    struct sockaddr_storage *slot = &addresses->list[addresses->count];
    if (addresses->count == WATCHDOG_MAX_ADDRESSES)
        return;
    memset(slot, 0, sizeof *slot);
    memcpy(slot, address, bytes);
    int fd = listen_on(slot);
    if (fd >= 0)
        listeners[addresses->count++] = fd;
}

void watchdog_listen(bool one_host, struct watchdog_addresses *addresses, int listeners[WATCHDOG_MAX_ADDRESSES])
{
    struct ifaddrs *all = NULL;
    struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    *addresses = (struct watchdog_addresses){ 0 };
    if (one_host)
        add_address(addresses, listeners, (struct sockaddr *)&loopback, sizeof loopback);
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
                add_address(addresses, listeners, (struct sockaddr *)&address, bytes);
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
    if (!ready(fd, POLLOUT, CONNECT_MS) || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error)
        return false;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0;
}

bool watchdog_connect(const struct sockaddr_storage *address, int rank, const uint8_t token[WATCHDOG_TOKEN_BYTES],
                      struct watchdog_peer *peer)
{
    struct watchdog_frame hello = { .type = WATCHDOG_HELLO, .rank = rank }, welcome;
    *peer = (struct watchdog_peer){ .fd = -1, .rank = NO_RANK };
    if (address->ss_family != AF_INET && address->ss_family != AF_INET6)
        return false;
    peer->fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (peer->fd < 0)
        return false;
    memcpy(hello.token, token, WATCHDOG_TOKEN_BYTES);
    if (open_connection(peer->fd, address)) {
        watchdog_send(peer, &hello, true);
        for (int got = 0; got == 0 && ready(peer->fd, POLLIN, CONNECT_MS);) {
            got = watchdog_receive(peer, &welcome);
            if (got == 1 && welcome.type == WATCHDOG_WELCOME && watchdog_token_equal(welcome.token, token))
                return true;
        }
    }
    watchdog_close(peer);
    return false;
}

bool watchdog_token_equal(const uint8_t a[WATCHDOG_TOKEN_BYTES], const uint8_t b[WATCHDOG_TOKEN_BYTES])
{
    uint8_t difference = 0;
    for (int i = 0; i < WATCHDOG_TOKEN_BYTES; i++)
        difference |= a[i] ^ b[i];
    return !difference;
}

/* Sends the rest of the last frame. Returns true if nothing is left. */
static bool flush(struct watchdog_peer *p)
{
    while (p->out_bytes > 0) {
        ssize_t sent = send(p->fd, p->out, (size_t)p->out_bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        p->out_bytes -= (int)sent;
        memmove(p->out, p->out + sent, (size_t)p->out_bytes);
    }
    return true;
}

void watchdog_send(struct watchdog_peer *p, const struct watchdog_frame *frame, bool must_arrive)
{
    if (p->fd < 0)
        return;
    if (!flush(p) && !(must_arrive && ready(p->fd, POLLOUT, 100) && flush(p)))
        return;
    watchdog_encode(frame, p->out);
    p->out_bytes = WATCHDOG_FRAME_BYTES;
    if (flush(p))
        return;
    if (must_arrive && ready(p->fd, POLLOUT, 100))
        flush(p);
    else if (p->out_bytes == WATCHDOG_FRAME_BYTES && !must_arrive)
        p->out_bytes = 0; /* no byte of it was sent, and a later frame says more */
}

int watchdog_receive(struct watchdog_peer *p, struct watchdog_frame *frame)
{
    for (;;) {
        ssize_t got = recv(p->fd, p->in + p->in_bytes, (size_t)(WATCHDOG_FRAME_BYTES - p->in_bytes), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (got <= 0)
            return -1;
        p->in_bytes += (int)got;
        if (p->in_bytes < WATCHDOG_FRAME_BYTES)
            continue;
        p->in_bytes = 0;
        return watchdog_decode(p->in, frame) ? 1 : -1;
    }
}

void watchdog_close(struct watchdog_peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}
