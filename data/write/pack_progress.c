/* pack_progress.c - shows images done, rate, bytes and time left. */
#include "data/write/pack_progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static void clear_line(void *context)
{
    struct pack_progress *p = context;
    if (p->line_open)
        fprintf(stderr, "\r\x1b[K");
    p->line_open = false;
}

void pack_progress_start(struct pack_progress *p, const char *what, int64_t total)
{
    *p = (struct pack_progress){ .what = what, .total = total, .started = clock_seconds(), .terminal = isatty(2) };
    p->last_shown = p->started;
    if (p->terminal)
        log_set_line_hook(clear_line, p);
}

void pack_progress_update(struct pack_progress *p, int64_t done, uint64_t bytes)
{
    double time = clock_seconds(), elapsed = time - p->started;
    if (time - p->last_shown < (p->terminal ? 0.2 : 10) || done <= 0)
        return;
    p->last_shown = time;
    char of[64] = "", left[64] = "";
    double rate = (double)(done - p->done_before) / elapsed;
    if (p->total > 0 && rate > 0) {
        double seconds = (double)(p->total - done) / rate;
        snprintf(of, sizeof of, " of %lld", (long long)p->total);
        snprintf(left, sizeof left, ", %d:%02d:%02d left", (int)(seconds / 3600), (int)(seconds / 60) % 60,
                 (int)seconds % 60);
    }
    if (!p->terminal) {
        log_info("%s: %lld%s images, %.0f/s, %.1f MB%s", p->what, (long long)done, of, rate, (double)bytes / 1e6, left);
        return;
    }
    fprintf(stderr, "\r\x1b[K%s: %lld%s images, %.0f/s, %.1f MB%s", p->what, (long long)done, of, rate,
            (double)bytes / 1e6, left);
    fflush(stderr);
    p->line_open = true;
}

double pack_progress_end(struct pack_progress *p)
{
    if (p->started == 0)
        return 0;
    clear_line(p);
    log_set_line_hook(NULL, NULL);
    return clock_seconds() - p->started;
}
