/* fuzz_watchdog.c - any bytes as what comes over a watchdog's socket, in pieces of the first byte's size. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/watchdog/sockets.h"
#include "comm/watchdog/table.h"
#include "tests/fuzz/fuzz.h"

enum { RANKS = 3 };

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    if (index > WATCH_END || capacity < 1 + 2 * WATCH_FRAME)
        return 0;
    struct watch_frame frame = { .type = index ? (enum watch_type)index : WATCH_BEAT,
                                 .rank = index % RANKS,
                                 .code = index,
                                 .place = { (enum watch_phase)(index % WATCH_PHASES), index % 2, 1000 * index, 7 } };
    if (frame.type <= WATCH_WELCOME)
        memset(frame.token, 0xa5, sizeof frame.token);
    out[0] = (unsigned char)(17 * index);
    watch_encode(&frame, out + 1);
    watch_encode(&frame, out + 1 + WATCH_FRAME);
    return 1 + 2 * WATCH_FRAME;
}

static void check(const struct watch_frame *frame, const unsigned char *bytes)
{
    static struct watch_entry ranks[RANKS];
    struct watch_table table = { .size = RANKS, .timeout = 10, .ranks = ranks };
    unsigned char again[WATCH_FRAME];
    char line[512] = "";
    watch_encode(frame, again);
    if (memcmp(again, bytes, sizeof again) != 0)
        abort();
    if (frame->rank < RANKS)
        watch_table_beat(&table, frame->rank, &frame->place, (double)(frame->place.beat % 100));
    if (watch_table_judge(&table, 50, line) != STATUS_OK && !line[0])
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int ends[2];
    if (size < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
        return 0;
    struct watch_peer peer = { .fd = ends[0] };
    size_t piece = 1 + data[0], read = 0;
    for (size_t at = 1; at < size && peer.fd >= 0; at += piece) {
        size_t length = size - at < piece ? size - at : piece;
        if (send(ends[1], data + at, length, MSG_NOSIGNAL) != (ssize_t)length)
            abort();
        struct watch_frame frame;
        for (int got; peer.fd >= 0 && (got = watch_receive(&peer, &frame)) != 0;) {
            if (got < 0) {
                watch_close(&peer);
                break;
            }
            check(&frame, data + 1 + read);
            read += WATCH_FRAME;
        }
    }
    watch_close(&peer);
    close(ends[1]);
    return 0;
}
