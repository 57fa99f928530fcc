/* pack_progress.h - shows the progress of a packing: one line that is rewritten on a terminal, else a line from time to
 * time. */
#ifndef CSC_DATA_WRITE_PACK_PROGRESS_H
#define CSC_DATA_WRITE_PACK_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct pack_progress {
    const char *what;    /* begins every line; not copied */
    int64_t total;       /* images; 0: unknown */
    int64_t done_before; /* images that an earlier process packed; they do not count in the rate */
    double started, last_shown;
    bool terminal;
    bool line_open; /* an unfinished line stands on the terminal */
};

void pack_progress_start(struct pack_progress *progress, const char *what, int64_t total);

/* Shows `done` images and `bytes` bytes, if it is time to. */
void pack_progress_update(struct pack_progress *progress, int64_t done, uint64_t bytes);

/* Removes the line. Returns the seconds since pack_progress_start, or 0 if that was not called. */
double pack_progress_end(struct pack_progress *progress);

#endif
