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

enum { CONNECT_MS = 5000, SEND_MS = 100 };

static socklen_t length_of(int family)
{
    return family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static bool usable(const struct ifaddrs *i)
{
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
        return false;
    if (i->ifa_addr->sa_family == AF_INET6)
        return !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr);
    return i->ifa_addr->sa_family == AF_INET;
}

/* Listens on a free port of the address and, if that succeeds, appends address and port to the list. */
static void add_address(struct watchdog_addresses *addresses, int listeners[], const void *address, int family)
{
    struct sockaddr_storage bound = { 0 };
    socklen_t length = length_of(family);
    if (addresses->count == WATCHDOG_MAX_ADDRESSES)
        return;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memcpy(&bound, address, length);
    if (fd < 0 || bind(fd, (struct sockaddr *)&bound, length) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &length) != 0) {
        if (fd >= 0)
            close(fd);
        return;
    }
    listeners[addresses->count] = fd;
    addresses->list[addresses->count++] = bound;
}

void watchdog_listen(bool one_host, struct watchdog_addresses *addresses, int listeners[WATCHDOG_MAX_ADDRESSES])
{
    static const int families[] = { AF_INET, AF_INET6 };
    struct ifaddrs *all = NULL;
    struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    addresses->count = 0;
    if (one_host)
        add_address(addresses, listeners, &loopback, AF_INET);
    if (getifaddrs(&all) != 0)
        return;
    for (int k = 0; k < 2; k++)
        for (struct ifaddrs *i = all; i; i = i->ifa_next)
            if (usable(i) && i->ifa_addr->sa_family == families[k])
                add_address(addresses, listeners, i->ifa_addr, families[k]); /* its port is 0 */
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

bool watchdog_connect(const struct sockaddr_storage *address, int rank, const uint8_t token[WATCHDOG_TOKEN_BYTES],
                      struct watchdog_peer *peer)
{
    struct watchdog_frame hello = { .type = WATCHDOG_HELLO, .rank = rank }, welcome;
    int one = 1;
    memcpy(hello.token, token, WATCHDOG_TOKEN_BYTES);
    *peer = (struct watchdog_peer){ .fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                                    .rank = NO_RANK };
    if (peer->fd < 0)
        return false;
    if ((connect(peer->fd, (const struct sockaddr *)address, length_of(address->ss_family)) == 0 ||
         errno == EINPROGRESS) &&
        ready(peer->fd, POLLOUT, CONNECT_MS) && setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0) {
        watchdog_send(peer, &hello, true); /* if the connection was refused, receiving fails */
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
static bool flush(struct watchdog_peer *p, bool patient)
{
    while (p->out_bytes > 0) {
        ssize_t sent = send(p->fd, (char *)(&p->out + 1) - p->out_bytes, p->out_bytes, MSG_NOSIGNAL);
        if (sent > 0)
            p->out_bytes -= (size_t)sent;
        else if (!patient || errno != EAGAIN || !ready(p->fd, POLLOUT, SEND_MS))
            return false;
    }
    return true;
}

void watchdog_send(struct watchdog_peer *p, const struct watchdog_frame *frame, bool must_arrive)
{
    if (p->fd < 0 || !flush(p, must_arrive))
        return;
    p->out = *frame;
    p->out.magic = WATCHDOG_MAGIC;
    p->out_bytes = sizeof p->out;
    if (!flush(p, must_arrive) && !must_arrive && p->out_bytes == sizeof p->out)
        p->out_bytes = 0; /* no byte of it was sent, and a later frame says more */
}

bool watchdog_frame_valid(const struct watchdog_frame *f)
{
    static const uint8_t none[WATCHDOG_TOKEN_BYTES];
    bool has_token = f->type == WATCHDOG_HELLO || f->type == WATCHDOG_WELCOME;
    return f->magic == WATCHDOG_MAGIC && f->type >= WATCHDOG_HELLO && f->type <= WATCHDOG_END && f->rank >= 0 &&
           f->rank < WATCHDOG_MAX_RANKS && f->code >= 0 && f->code <= 255 &&
           (unsigned)f->progress.phase < WATCHDOG_PHASES && f->progress.waits <= 1 && f->progress.step >= 0 &&
           f->progress.step <= WATCHDOG_MAX_STEP && (has_token || memcmp(f->token, none, sizeof none) == 0);
}

int watchdog_receive(struct watchdog_peer *p, struct watchdog_frame *frame)
{
    ssize_t got;
    while ((got = recv(p->fd, (char *)&p->in + p->in_bytes, sizeof p->in - p->in_bytes, 0)) > 0) {
        p->in_bytes += (size_t)got;
        if (p->in_bytes < sizeof p->in)
            continue;
        p->in_bytes = 0;
        *frame = p->in;
        return watchdog_frame_valid(frame) ? 1 : -1;
    }
    return got < 0 && errno == EAGAIN ? 0 : -1;
}

void watchdog_close(struct watchdog_peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}
