/* sockets.h - sockets of the watchdog: TCP, never blocking once set up. */
#ifndef CSC_COMM_WATCHDOG_SOCKETS_H
#define CSC_COMM_WATCHDOG_SOCKETS_H

#include <sys/socket.h>

#include "comm/watchdog/frames.h"

enum { WATCH_ADDRESSES = 8 };

struct watch_offer { /* where a hub listens */
    int32_t count;
    struct sockaddr_storage list[WATCH_ADDRESSES];
};

/* A connection; fd -1: none. */
struct watch_peer {
    int fd, rank; /* rank -1: has not shown the token yet */
    double since;
    bool ready; /* there is something to read */
    uint8_t in[WATCH_FRAME], out[WATCH_FRAME];
    int in_have, out_have; /* bytes of a frame that has come, of one that could not be sent whole */
};

/* Binds one socket to each of this host's addresses, loopback first if all ranks are here; listeners[i] is where
 * offer->list[i] says. */
void watch_listen(bool one_host, struct watch_offer *offer, int listeners[WATCH_ADDRESSES]);

/* Connects, shows the token and waits for the hub's: at most some seconds. False if that failed. */
bool watch_connect(const struct sockaddr_storage *address, int rank, const uint8_t token[WATCH_TOKEN],
                   struct watch_peer *peer);

bool watch_same_token(const uint8_t a[WATCH_TOKEN], const uint8_t b[WATCH_TOKEN]); /* takes always equally long */

/* Queues a frame. What cannot be sent now is dropped, unless it must arrive: then it waits a tenth of a second. */
void watch_send(struct watch_peer *peer, const struct watch_frame *frame, bool must_arrive);

/* Reads what is there. 1: a frame; 0: none yet; -1: the connection ended or what came is no frame. */
int watch_receive(struct watch_peer *peer, struct watch_frame *frame);

void watch_close(struct watch_peer *peer);

#endif
