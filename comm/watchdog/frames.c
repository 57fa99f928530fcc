/* frames.c - frames to bytes and back. */
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

void watch_encode(const struct watch_frame *f, uint8_t out[WATCH_FRAME])
{
    put(out, MAGIC, 4);
    out[4] = (uint8_t)f->type;
    out[5] = (uint8_t)f->place.phase;
    out[6] = f->place.waits;
    out[7] = 0;
    put(out + 8, (uint64_t)f->rank, 4);
    put(out + 12, (uint64_t)f->code, 4);
    put(out + 16, (uint64_t)f->place.step, 8);
    put(out + 24, f->place.beat, 8);
    memcpy(out + 32, f->token, WATCH_TOKEN);
}

bool watch_decode(const uint8_t in[WATCH_FRAME], struct watch_frame *f)
{
    static const uint8_t none[WATCH_TOKEN];
    uint64_t rank = get(in + 8, 4), code = get(in + 12, 4), step = get(in + 16, 8);
    if (get(in, 4) != MAGIC || in[4] < WATCH_HELLO || in[4] > WATCH_END || in[5] >= WATCH_PHASES || in[6] > 1 ||
        in[7] || rank >= WATCH_MOST_RANKS || code > 255 || step > (uint64_t)WATCH_MOST_STEP)
        return false;
    if (in[4] != WATCH_HELLO && in[4] != WATCH_WELCOME && memcmp(in + 32, none, WATCH_TOKEN) != 0)
        return false;
    *f = (struct watch_frame){
        .type = (enum watch_type)in[4],
        .rank = (int)rank,
        .code = (int)code,
        .place = { (enum watch_phase)in[5], in[6], (int64_t)step, get(in + 24, 8) },
    };
    memcpy(f->token, in + 32, WATCH_TOKEN);
    return true;
}
