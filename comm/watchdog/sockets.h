/* sockets.h - the TCP connections of the watchdog. After watchdog_connect they never block. */
#ifndef CSC_COMM_WATCHDOG_SOCKETS_H
#define CSC_COMM_WATCHDOG_SOCKETS_H

#include <sys/socket.h>

#include "comm/watchdog/frames.h"

enum { WATCHDOG_MAX_ADDRESSES = 8 };

struct watchdog_addresses { /* on which a coordinator listens */
    int32_t count;
    struct sockaddr_storage list[WATCHDOG_MAX_ADDRESSES];
};

/* A connection to another rank. */
struct watchdog_peer {
    int fd;                        /* -1 if closed */
    int rank;                      /* NO_RANK until it has shown the token */
    struct watchdog_frame in, out; /* an incomplete frame that was received, and one that is not yet sent completely */
    size_t in_bytes, out_bytes;    /* that are there of `in`, and that are left of `out` */
};

/* Binds a listening socket to each address of this host, loopback first if all ranks are on it. listeners[i] belongs to
 * addresses->list[i]. */
void watchdog_listen(bool one_host, struct watchdog_addresses *addresses, int listeners[WATCHDOG_MAX_ADDRESSES]);

/* Connects, shows the token and waits for the coordinator's, each at most 5 seconds. Returns false if that failed. */
bool watchdog_connect(const struct sockaddr_storage *address, int rank, const uint8_t token[WATCHDOG_TOKEN_BYTES],
                      struct watchdog_peer *peer);

/* Compares two tokens in a time that does not depend on them. */
bool watchdog_token_equal(const uint8_t a[WATCHDOG_TOKEN_BYTES], const uint8_t b[WATCHDOG_TOKEN_BYTES]);

/* Whether bytes that were received are a frame. */
bool watchdog_frame_valid(const struct watchdog_frame *frame);

/* Sends a frame. One that cannot be sent at once is dropped, unless it must arrive: then this waits up to 0.1 s. */
void watchdog_send(struct watchdog_peer *peer, const struct watchdog_frame *frame, bool must_arrive);

/* Returns 1 and a frame, 0 if none has arrived yet, or -1 if the connection ended or the bytes are not a frame. */
int watchdog_receive(struct watchdog_peer *peer, struct watchdog_frame *frame);

void watchdog_close(struct watchdog_peer *peer);

#endif
