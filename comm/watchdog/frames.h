/* frames.h - the messages of the watchdog: frames of 48 bytes, little-endian.
 *    0 u32 magic    4 u8 message    5 u8 phase    6 u8 waiting    7 u8 zero    8 u32 rank    12 u32 code
 *   16 u64 step    24 u64 progress counter    32 token, 16 bytes (zero except in HELLO and WELCOME) */
#ifndef CSC_COMM_WATCHDOG_FRAMES_H
#define CSC_COMM_WATCHDOG_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/watchdog/phase.h"

enum { WATCHDOG_FRAME_BYTES = 48, WATCHDOG_TOKEN_BYTES = 16, WATCHDOG_MAX_RANKS = 1 << 20, NO_RANK = -1 };
#define WATCHDOG_MAX_STEP ((int64_t)1 << 40)

enum watchdog_message {
    WATCHDOG_HELLO = 1, /* rank to coordinator: the first frame, with the token */
    WATCHDOG_WELCOME,   /* coordinator to rank: its answer, with the token */
    WATCHDOG_HEARTBEAT, /* both ways: the sender's progress */
    WATCHDOG_GOODBYE,   /* both ways: the sender ends normally */
    WATCHDOG_FAILED,    /* rank to coordinator: the sender fails with `code` and asks whether to report */
    WATCHDOG_ANSWER,    /* coordinator to a rank that failed: code 1: report; 0: another rank does */
    WATCHDOG_END,       /* coordinator to rank: end with `code` without reporting */
};

struct watchdog_progress {
    enum watchdog_phase phase;
    bool waits; /* for other ranks */
    int64_t step;
    uint64_t counter; /* grows with every change of the other fields */
};

struct watchdog_frame {
    enum watchdog_message type;
    int rank, code; /* of the sender; a status or an answer */
    struct watchdog_progress progress;
    uint8_t token[WATCHDOG_TOKEN_BYTES];
};

void watchdog_encode(const struct watchdog_frame *frame, uint8_t out[WATCHDOG_FRAME_BYTES]);

/* Returns false unless the bytes are exactly what watchdog_encode would write. */
bool watchdog_decode(const uint8_t in[WATCHDOG_FRAME_BYTES], struct watchdog_frame *frame);

#endif
