/* frames.c - writes frames to bytes and reads them back. */
#include "comm/watchdog/frames.h"

#include <string.h>

#define MAGIC 0x57435343u /* "CSCW" */

static void put(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)in[i] << 8 * i;
    return value;
}

void watchdog_encode(const struct watchdog_frame *f, uint8_t out[WATCHDOG_FRAME_BYTES])
{
    put(out, MAGIC, 4);
    out[4] = (uint8_t)f->type;
    out[5] = (uint8_t)f->progress.phase;
    out[6] = f->progress.waits;
    out[7] = 0;
    put(out + 8, (uint64_t)f->rank, 4);
    put(out + 12, (uint64_t)f->code, 4);
    put(out + 16, (uint64_t)f->progress.step, 8);
    put(out + 24, f->progress.counter, 8);
    memcpy(out + 32, f->token, WATCHDOG_TOKEN_BYTES);
}

bool watchdog_decode(const uint8_t in[WATCHDOG_FRAME_BYTES], struct watchdog_frame *f)
{
    static const uint8_t none[WATCHDOG_TOKEN_BYTES];
    uint64_t rank = get(in + 8, 4), code = get(in + 12, 4), step = get(in + 16, 8);
    if (get(in, 4) != MAGIC || in[4] < WATCHDOG_HELLO || in[4] > WATCHDOG_END || in[5] >= WATCHDOG_PHASES ||
        in[6] > 1 || in[7] || rank >= WATCHDOG_MAX_RANKS || code > 255 || step > (uint64_t)WATCHDOG_MAX_STEP)
        return false;
    if (in[4] != WATCHDOG_HELLO && in[4] != WATCHDOG_WELCOME && memcmp(in + 32, none, WATCHDOG_TOKEN_BYTES) != 0)
        return false;
    *f = (struct watchdog_frame){
        .type = (enum watchdog_message)in[4],
        .rank = (int)rank,
        .code = (int)code,
        .progress = { (enum watchdog_phase)in[5], in[6], (int64_t)step, get(in + 24, 8) },
    };
    memcpy(f->token, in + 32, WATCHDOG_TOKEN_BYTES);
    return true;
}
