/* frames.h - the messages of the watchdog. They are sent as they lie in memory, because all ranks run the same program
 * on the same kind of machine. */
#ifndef CSC_COMM_WATCHDOG_FRAMES_H
#define CSC_COMM_WATCHDOG_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/watchdog/phase.h"

enum { WATCHDOG_TOKEN_BYTES = 16, WATCHDOG_MAX_RANKS = 1 << 20, NO_RANK = -1 };
#define WATCHDOG_MAGIC    0x57435343u /* "CSCW" */
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
    uint32_t waits; /* 1: for other ranks */
    int64_t step;
    uint64_t counter; /* grows with every change of the other fields */
};

struct watchdog_frame {
    uint32_t magic; /* set by watchdog_send */
    enum watchdog_message type;
    int32_t rank, code; /* of the sender; a status or an answer */
    struct watchdog_progress progress;
    uint8_t token[WATCHDOG_TOKEN_BYTES]; /* zero except in HELLO and WELCOME */
};
enum { WATCHDOG_FRAME_BYTES = sizeof(struct watchdog_frame) };
_Static_assert(WATCHDOG_FRAME_BYTES == 56, "frames have no padding");

#endif
