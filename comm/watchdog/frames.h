/* frames.h - what the watchdogs of two ranks say to each other: frames of WATCHDOG_FRAME_BYTES bytes, little-endian.
 *    0 u32 magic    4 u8 type    5 u8 phase    6 u8 waits    7 u8 0    8 u32 rank    12 u32 code
 *   16 u64 step    24 u64 beat    32 token, 16 bytes (HELLO and WELCOME, else 0) */
#ifndef CSC_COMM_WATCHDOG_FRAMES_H
#define CSC_COMM_WATCHDOG_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/watchdog/phase.h"

enum { WATCHDOG_FRAME_BYTES = 48, WATCHDOG_TOKEN_BYTES = 16, WATCHDOG_MAX_RANKS = 1 << 20 };
#define WATCHDOG_MAX_STEP ((int64_t)1 << 40)

enum watchdog_message {
    WATCHDOG_HELLO = 1, /* rank to hub: token, rank */
    WATCHDOG_WELCOME,   /* hub to rank: token */
    WATCHDOG_HEARTBEAT, /* both ways: place and beat of the sender */
    WATCHDOG_GOODBYE,   /* both ways: the sender ends as it should */
    WATCHDOG_FAILED,    /* rank to hub: the sender fails with code */
    WATCHDOG_ANSWER,    /* hub to a rank that failed: code 1: speak, 0: another does */
    WATCHDOG_END,       /* hub to rank: end with code, without a word */
};

struct watchdog_progress {
    enum watchdog_phase phase;
    bool waits;
    int64_t step;
    uint64_t counter; /* grows with every call of watchdog_enter and watchdog_set_waiting */
};

struct watchdog_frame {
    enum watchdog_message type;
    int rank, code;
    struct watchdog_progress progress;
    uint8_t token[WATCHDOG_TOKEN_BYTES];
};

void watchdog_encode(const struct watchdog_frame *frame, uint8_t out[WATCHDOG_FRAME_BYTES]);
/* False unless it is exactly what watchdog_encode could have made. */
bool watchdog_decode(const uint8_t in[WATCHDOG_FRAME_BYTES], struct watchdog_frame *frame);

#endif
