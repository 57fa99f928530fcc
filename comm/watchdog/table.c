/* table.c - finds the rank that hangs: first among ranks whose connection ended, then among silent ones, then among
 * those that are heard but make no progress. A rank that waits for others is never named as long as one that does not
 * wait is left. */
#include "comm/watchdog/table.h"

#include <stdio.h>

static const struct {
    const char *name, *advice;
    bool takes_long;
} phases[WATCHDOG_PHASES] = {
    [WATCHDOG_STARTING] = { "starting", "", true },
    [WATCHDOG_LOADING] = { "loading data", ": is its storage alive?", false },
    [WATCHDOG_COMPUTING] = { "computing", ": is its device alive?", false },
    [WATCHDOG_EXCHANGING] = { "exchanging gradients", ": is the network alive?", false },
    [WATCHDOG_UPDATING] = { "updating weights", ": is its device alive?", false },
    [WATCHDOG_EVALUATING] = { "evaluating", "", true },
    [WATCHDOG_SAVING] = { "saving a checkpoint", ": is its storage alive?", true },
    [WATCHDOG_ENDING] = { "ending", "", true },
};

void watchdog_table_heartbeat(struct watchdog_table *t, int rank, const struct watchdog_progress *progress, double now)
{
    struct watchdog_entry *e = &t->ranks[rank];
    if (progress->counter != e->progress.counter)
        e->last_progress = now;
    e->progress = *progress;
    e->last_heard = now;
}

void watchdog_table_shift(struct watchdog_table *t, double seconds)
{
    for (int i = 0; i < t->size; i++) {
        t->ranks[i].last_heard += seconds;
        t->ranks[i].last_progress += seconds;
    }
}

bool watchdog_table_silent(const struct watchdog_table *t, int rank, double now)
{
    const struct watchdog_entry *e = &t->ranks[rank];
    return !e->unmonitored && now - e->last_heard > (e->lost ? 0 : t->timeout);
}

static double limit(const struct watchdog_table *t, const struct watchdog_entry *e)
{
    return phases[e->progress.phase].takes_long ? WATCHDOG_LONG_PHASE_FACTOR * t->timeout : t->timeout;
}

/* "rank 3 on HOST (and 2 more)" */
static const char *rank_name(char text[128], const struct watchdog_table *t, int rank, int others)
{
    int length = snprintf(text, 128, "rank %d on %s", rank, t->ranks[rank].host);
    if (others)
        snprintf(text + length, (size_t)(128 - length), " (and %d more)", others);
    return text;
}

static bool waits(const struct watchdog_entry *e)
{
    return e->progress.waits || e->progress.phase == WATCHDOG_EXCHANGING;
}

/* Of two ranks without progress, the one that is further behind. */
static int further_behind(const struct watchdog_table *t, int a, int b)
{
    const struct watchdog_entry *x = &t->ranks[a], *y = &t->ranks[b];
    if (x->progress.step != y->progress.step)
        return x->progress.step < y->progress.step ? a : b;
    return x->last_progress <= y->last_progress ? a : b;
}

static enum status check_stuck(const struct watchdog_table *t, double now, char line[WATCHDOG_LINE_BYTES])
{
    int culprit = -1, last = -1, monitored = 0;
    bool all_wait = true;
    for (int i = 0; i < t->size; i++) {
        const struct watchdog_entry *e = &t->ranks[i];
        if (e->unmonitored)
            continue;
        monitored++;
        bool stuck = now - e->last_progress > limit(t, e);
        if (!waits(e) && stuck)
            culprit = culprit < 0 ? i : further_behind(t, culprit, i);
        all_wait = all_wait && waits(e) && stuck;
        last = last < 0 ? i : further_behind(t, last, i);
    }
    char name[128];
    if (culprit >= 0) {
        const struct watchdog_entry *e = &t->ranks[culprit];
        snprintf(line, WATCHDOG_LINE_BYTES,
                 "%s hangs: no progress for %.0f s in step %lld, %s%s Run again with --resume=auto",
                 rank_name(name, t, culprit, 0), now - e->last_progress, (long long)e->progress.step,
                 phases[e->progress.phase].name,
                 phases[e->progress.phase].advice[0] ? phases[e->progress.phase].advice : ".");
        return STATUS_HUNG;
    }
    if (monitored > 1 && all_wait) {
        const struct watchdog_entry *e = &t->ranks[last];
        snprintf(line, WATCHDOG_LINE_BYTES,
                 "all ranks wait for one another; %s is furthest behind, in step %lld, %s, for %.0f s: is the "
                 "network alive? Run again with --resume=auto",
                 rank_name(name, t, last, 0), (long long)e->progress.step, phases[e->progress.phase].name,
                 now - e->last_progress);
        return STATUS_HUNG;
    }
    return STATUS_OK;
}

enum status watchdog_table_check(const struct watchdog_table *t, double now, char line[WATCHDOG_LINE_BYTES])
{
    int lost = -1, silent = -1, all_lost = 0, all_silent = 0;
    char name[128];
    for (int i = t->size - 1; i >= 0; i--) {
        const struct watchdog_entry *e = &t->ranks[i];
        if (e->unmonitored)
            continue;
        if (e->lost && now - e->last_heard > WATCHDOG_LOST_AFTER_S) {
            lost = i;
            all_lost++;
        } else if (!e->lost && now - e->last_heard > t->timeout) {
            silent = i;
            all_silent++;
        }
    }
    if (lost >= 0) {
        const struct watchdog_entry *e = &t->ranks[lost];
        snprintf(line, WATCHDOG_LINE_BYTES,
                 "%s ended without a word in step %lld, %s: killed, out of memory, or its node failed. Run again "
                 "with --resume=auto",
                 rank_name(name, t, lost, all_lost - 1), (long long)e->progress.step, phases[e->progress.phase].name);
        return STATUS_LOST;
    }
    if (silent >= 0) {
        const struct watchdog_entry *e = &t->ranks[silent];
        snprintf(line, WATCHDOG_LINE_BYTES,
                 "%s hangs: not heard of for %.0f s, last in step %lld, %s: stopped, or its node or link is "
                 "down. Run again with --resume=auto",
                 rank_name(name, t, silent, all_silent - 1), now - e->last_heard, (long long)e->progress.step,
                 phases[e->progress.phase].name);
        return STATUS_HUNG;
    }
    return check_stuck(t, now, line);
}
