/* pack_progress.h - how far a packing is: a line that rewrites itself on a terminal, else one now and then. */
#ifndef CSC_DATA_WRITE_PACK_PROGRESS_H
#define CSC_DATA_WRITE_PACK_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct pack_progress {
    const char *what;
    int64_t total;       /* 0: unknown */
    int64_t done_before; /* done by an earlier process: not counted in the rate */
    double started, last_shown;
    bool terminal, line_open; /* a line is standing on the terminal */
};

void pack_progress_start(struct pack_progress *progress, const char *what, int64_t total);
void pack_progress_update(struct pack_progress *progress, int64_t done, uint64_t bytes);

/* Ends the line; the seconds since the start, 0 if it was never started. */
double pack_progress_end(struct pack_progress *progress);

#endif
