/* fuzz_watchdog.c - arbitrary bytes on a watchdog's socket, in pieces whose size is the first byte's. */
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
    if (index > WATCHDOG_END || capacity < 1 + 2 * WATCHDOG_FRAME_BYTES)
        return 0;
    struct watchdog_frame frame = { .magic = WATCHDOG_MAGIC,
                                    .type = index ? (enum watchdog_message)index : WATCHDOG_HEARTBEAT,
                                    .rank = index % RANKS,
                                    .code = index,
                                    .progress = { (enum watchdog_phase)(index % WATCHDOG_PHASES), index % 2,
                                                  1000 * index, 7 } };
    if (frame.type <= WATCHDOG_WELCOME)
        memset(frame.token, 0xa5, sizeof frame.token);
    out[0] = (unsigned char)(17 * index);
    memcpy(out + 1, &frame, sizeof frame);
    memcpy(out + 1 + sizeof frame, &frame, sizeof frame);
    return 1 + 2 * WATCHDOG_FRAME_BYTES;
}

static void check(const struct watchdog_frame *frame, const unsigned char *bytes)
{
    static struct watchdog_entry ranks[RANKS];
    struct watchdog_table table = { .size = RANKS, .timeout = 10, .ranks = ranks };
    char line[512] = "";
    if (memcmp(frame, bytes, sizeof *frame) != 0)
        abort();
    if (frame->rank < RANKS)
        watchdog_table_heartbeat(&table, frame->rank, &frame->progress, (double)(frame->progress.counter % 100));
    if (watchdog_table_check(&table, 50, line) != STATUS_OK && !line[0])
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int ends[2];
    if (size < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
        return 0;
    struct watchdog_peer peer = { .fd = ends[0] };
    size_t piece = 1 + data[0], read = 0;
    for (size_t at = 1; at < size && peer.fd >= 0; at += piece) {
        size_t length = size - at < piece ? size - at : piece;
        if (send(ends[1], data + at, length, MSG_NOSIGNAL) != (ssize_t)length)
            abort();
        struct watchdog_frame frame;
        for (int got; peer.fd >= 0 && (got = watchdog_receive(&peer, &frame)) != 0;) {
            if (got < 0) {
                watchdog_close(&peer);
                break;
            }
            check(&frame, data + 1 + read);
            read += WATCHDOG_FRAME_BYTES;
        }
    }
    watchdog_close(&peer);
    close(ends[1]);
    return 0;
}
