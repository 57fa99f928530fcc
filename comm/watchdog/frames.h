/* frames.h - what the watchdogs of two ranks say to each other: frames of WATCH_FRAME bytes, little-endian.
 *    0 u32 magic    4 u8 type    5 u8 phase    6 u8 waits    7 u8 0    8 u32 rank    12 u32 code
 *   16 u64 step    24 u64 beat    32 token, 16 bytes (HELLO and WELCOME, else 0) */
#ifndef CSC_COMM_WATCHDOG_FRAMES_H
#define CSC_COMM_WATCHDOG_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/watchdog/watchdog.h"

enum { WATCH_FRAME = 48, WATCH_TOKEN = 16, WATCH_MOST_RANKS = 1 << 20 };
#define WATCH_MOST_STEP ((int64_t)1 << 40)

enum watch_type {
    WATCH_HELLO = 1, /* rank to hub: token, rank */
    WATCH_WELCOME,   /* hub to rank: token */
    WATCH_BEAT,      /* both ways: place and beat of the sender */
    WATCH_BYE,       /* both ways: the sender ends as it should */
    WATCH_FAILED,    /* rank to hub: the sender fails with code */
    WATCH_ANSWER,    /* hub to a rank that failed: code 1: speak, 0: another does */
    WATCH_END,       /* hub to rank: end with code, without a word */
};

struct watch_place {
    enum watch_phase phase;
    bool waits;
    int64_t step;
    uint64_t beat; /* grows with every call of watch_at and watch_waits */
};

struct watch_frame {
    enum watch_type type;
    int rank, code;
    struct watch_place place;
    uint8_t token[WATCH_TOKEN];
};

void watch_encode(const struct watch_frame *frame, uint8_t out[WATCH_FRAME]);
/* False unless it is exactly what watch_encode could have made. */
bool watch_decode(const uint8_t in[WATCH_FRAME], struct watch_frame *frame);

#endif
