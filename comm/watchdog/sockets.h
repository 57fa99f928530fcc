/* sockets.h - sockets of the watchdog: TCP, never blocking once set up. */
#ifndef CSC_COMM_WATCHDOG_SOCKETS_H
#define CSC_COMM_WATCHDOG_SOCKETS_H

#include <sys/socket.h>

#include "comm/watchdog/frames.h"

enum { WATCHDOG_MAX_ADDRESSES = 8 };

struct watchdog_addresses { /* where a hub listens */
    int32_t count;
    struct sockaddr_storage list[WATCHDOG_MAX_ADDRESSES];
};

/* A connection; fd -1: none. */
struct watchdog_peer {
    int fd, rank; /* rank -1: has not shown the token yet */
    double since;
    bool ready; /* there is something to read */
    uint8_t in[WATCHDOG_FRAME_BYTES], out[WATCHDOG_FRAME_BYTES];
    int in_bytes, out_bytes; /* bytes of a frame that has come, of one that could not be sent whole */
};

/* Binds one socket to each of this host's addresses, loopback first if all ranks are here; listeners[i] is where
 * addresses->list[i] says. */
void watchdog_listen(bool one_host, struct watchdog_addresses *addresses, int listeners[WATCHDOG_MAX_ADDRESSES]);

/* Connects, shows the token and waits for the hub's: at most some seconds. False if that failed. */
bool watchdog_connect(const struct sockaddr_storage *address, int rank, const uint8_t token[WATCHDOG_TOKEN_BYTES],
                      struct watchdog_peer *peer);

bool watchdog_token_equal(const uint8_t a[WATCHDOG_TOKEN_BYTES],
                          const uint8_t b[WATCHDOG_TOKEN_BYTES]); /* takes always equally long */

/* Queues a frame. What cannot be sent now is dropped, unless it must arrive: then it waits a tenth of a second. */
void watchdog_send(struct watchdog_peer *peer, const struct watchdog_frame *frame, bool must_arrive);

/* Reads what is there. 1: a frame; 0: none yet; -1: the connection ended or what came is no frame. */
int watchdog_receive(struct watchdog_peer *peer, struct watchdog_frame *frame);

void watchdog_close(struct watchdog_peer *peer);

#endif
