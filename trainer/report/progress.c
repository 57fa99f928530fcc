/* progress.c - redraws the bar in place on standard error; lines go through the log.
 *
 *     epoch 3/10 [=======>            ] 1230/3900  loss 1.4123  lr 0.0981  2314 img/s  wait 1%  ETA 0:12:31 */
#include "trainer/report/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/integer.h"
#include "base/log.h"

enum { BAR = 24, MAX_TEXT = 512 };
static const double redraw_s = 0.2;
static const double phase_line_s = 30;

struct progress {
    bool terminal;
    atomic_bool drawn; /* a log line of any thread clears the bar */
    int64_t first, step, total, steps_per_epoch;
    struct progress_metrics metrics;
    bool has_metrics;
    double began, last_drawn; /* seconds; began: the end of this invocation's first step */
    int64_t began_step;
    double phase_began, phase_reported; /* seconds, of the current phase */
    int64_t phase_first, phase_done;    /* `done` at its start, and now */
};

static void clear_bar(void *context)
{
    struct progress *progress = context;
    if (!atomic_exchange(&progress->drawn, false))
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
}

static void draw(struct progress *progress, const char *text)
{
    struct winsize window = { 0 };
    int columns = 80;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1)
        columns = window.ws_col;
    fprintf(stderr, "\r%.*s\033[K", columns - 1, text);
    fflush(stderr);
    progress->drawn = true;
    progress->last_drawn = clock_seconds();
}

static __attribute__((format(printf, 2, 3))) void add(char text[MAX_TEXT], const char *format, ...)
{
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, MAX_TEXT - length, format, arguments);
    va_end(arguments);
}

/* Adds the time left at the speed of this invocation, evaluations and checkpoints included. Its first step, which
 * may tune, does not count. */
static void add_time_left(double left, char text[MAX_TEXT])
{
    long long s = (long long)fmin(left, 1e9);
    if (s >= 86400)
        add(text, "  ETA %lldd %lld:%02lld:%02lld", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
    else
        add(text, "  ETA %lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
}

static void add_eta(const struct progress *progress, char text[MAX_TEXT])
{
    int64_t done = progress->step - progress->began_step;
    if (done >= 1)
        add_time_left((clock_seconds() - progress->began) / (double)done * (double)(progress->total - progress->step),
                      text);
}

static void add_metrics(const struct progress *progress, char text[MAX_TEXT])
{
    const struct progress_metrics *n = &progress->metrics;
    if (progress->has_metrics)
        add(text, "  loss %.4f  lr %.4g  %.*f img/s  wait %.0f%%", n->loss, n->lr, n->img_s < 100 ? 1 : 0, n->img_s,
            100 * n->data_wait);
}

/* Users see epochs from 1 on. The last step of an epoch still belongs to it. */
static void add_epoch(const struct progress *progress, char text[MAX_TEXT])
{
    int64_t per = progress->steps_per_epoch, at = progress->step > 0 ? progress->step - 1 : 0;
    add(text, "epoch %lld/%lld", (long long)(at / per + 1), (long long)ceil_div(progress->total, per));
}

static void add_bar(char text[MAX_TEXT], int64_t done, int64_t total)
{
    int filled = total > 0 ? (int)((double)done / (double)total * BAR) : 0;
    char bar[BAR + 1];
    filled = filled < 0 ? 0 : filled > BAR ? BAR : filled;
    memset(bar, ' ', BAR);
    memset(bar, '=', (size_t)filled);
    if (filled < BAR)
        bar[filled] = '>';
    bar[BAR] = 0;
    add(text, " [%s] %lld/%lld", bar, (long long)done, (long long)total);
}

static void draw_steps(struct progress *progress)
{
    char text[MAX_TEXT] = "";
    add_epoch(progress, text);
    add_bar(text, progress->step, progress->total);
    add_metrics(progress, text);
    add_eta(progress, text);
    draw(progress, text);
}

enum status progress_create(struct progress **out, int64_t first_step, int64_t total_steps, int64_t steps_per_epoch)
{
    struct progress *progress = calloc(1, sizeof *progress);
    if (!progress)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    const char *kind = getenv("TERM");
    *progress = (struct progress){
        .terminal = isatty(STDERR_FILENO) && !(kind && strcmp(kind, "dumb") == 0),
        .first = first_step,
        .step = first_step,
        .began_step = first_step,
        .total = total_steps,
        .steps_per_epoch = steps_per_epoch > 0 ? steps_per_epoch : 1,
    };
    if (progress->terminal)
        log_set_line_hook(clear_bar, progress);
    *out = progress;
    return STATUS_OK;
}

void progress_destroy(struct progress *progress)
{
    if (!progress)
        return;
    if (progress->terminal) {
        clear_bar(progress);
        log_set_line_hook(NULL, NULL);
    }
    free(progress);
}

static void advance(struct progress *progress, int64_t step)
{
    if (progress->began_step == progress->first && step > progress->first) {
        progress->began_step = step;
        progress->began = clock_seconds();
    }
    progress->step = step;
}

void progress_step(struct progress *progress, int64_t step)
{
    advance(progress, step);
    if (progress->terminal && clock_seconds() - progress->last_drawn >= redraw_s)
        draw_steps(progress);
}

void progress_report(struct progress *progress, int64_t step, const struct progress_metrics *metrics)
{
    advance(progress, step);
    progress->metrics = *metrics;
    progress->has_metrics = true;
    if (progress->terminal) {
        draw_steps(progress);
        return;
    }
    char text[MAX_TEXT] = "";
    add_epoch(progress, text);
    add(text, "  step %lld/%lld", (long long)step, (long long)progress->total);
    add_metrics(progress, text);
    add_eta(progress, text);
    log_info("%s", text);
}

void progress_phase(struct progress *progress, const char *phase, int64_t done, int64_t total)
{
    char text[MAX_TEXT] = "";
    double now = clock_seconds();
    if (done <= progress->phase_done || progress->phase_began == 0) { /* a new phase */
        progress->phase_began = progress->phase_reported = now;
        progress->phase_first = done;
    }
    progress->phase_done = done;
    if (progress->terminal ? done != total && done != 0 && now - progress->last_drawn < redraw_s
                           : done == total || now - progress->phase_reported < phase_line_s)
        return;
    add(text, "%s", phase);
    if (progress->terminal)
        add_bar(text, done, total);
    else
        add(text, " %lld/%lld", (long long)done, (long long)total);
    if (done > progress->phase_first && total > 0)
        add_time_left((now - progress->phase_began) / (double)(done - progress->phase_first) * (double)(total - done),
                      text);
    progress->phase_reported = now;
    if (progress->terminal)
        draw(progress, text);
    else
        log_info("%s", text);
}
