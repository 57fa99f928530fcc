/* table.c - finds the rank that hangs: first among ranks whose connection ended, then among silent ones, then among
 * those that are heard but make no progress. A rank that waits for others is never named as long as one that does not
 * wait is left. */
#include "comm/watchdog/table.h"

#include <stdio.h>

static const struct {
    const char *name, *advice;
    bool takes_long;
} phases[WATCHDOG_PHASES] = {
    [WATCHDOG_STARTING] = { "starting", ".", true },
    [WATCHDOG_LOADING] = { "loading data", ": is its storage alive?", false },
    [WATCHDOG_COMPUTING] = { "computing", ": is its device alive?", false },
    [WATCHDOG_EXCHANGING] = { "exchanging gradients", ": is the network alive?", false },
    [WATCHDOG_UPDATING] = { "updating weights", ": is its device alive?", false },
    [WATCHDOG_EVALUATING] = { "evaluating", ".", true },
    [WATCHDOG_SAVING] = { "saving a checkpoint", ": is its storage alive?", true },
    [WATCHDOG_ENDING] = { "ending", ".", true },
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

/* Of two ranks without progress, the one that is further behind. */
static int further_behind(const struct watchdog_table *t, int a, int b)
{
    const struct watchdog_entry *x = &t->ranks[a], *y = &t->ranks[b];
    if (x->progress.step != y->progress.step)
        return x->progress.step < y->progress.step ? a : b;
    return x->last_progress <= y->last_progress ? a : b;
}

/* WAITING: without progress, but perhaps because of another rank. */
enum trouble { NONE, WAITING, STUCK, SILENT, LOST };

static enum trouble trouble_of(const struct watchdog_table *t, const struct watchdog_entry *e, double now)
{
    double limit = phases[e->progress.phase].takes_long ? WATCHDOG_LONG_PHASE_FACTOR * t->timeout : t->timeout;
    if (e->lost)
        return now - e->last_heard > WATCHDOG_LOST_AFTER_S ? LOST : NONE;
    if (now - e->last_heard > t->timeout)
        return SILENT;
    if (now - e->last_progress <= limit)
        return NONE;
    return e->progress.waits || e->progress.phase == WATCHDOG_EXCHANGING ? WAITING : STUCK;
}

/* The worst trouble of any rank (WAITING only if all ranks wait), and the rank to name: of several, the first that is
 * lost or silent, and otherwise the one that is furthest behind. *others: how many more are in that trouble. */
static enum trouble find_trouble(const struct watchdog_table *t, double now, int *culprit, int *others)
{
    enum trouble worst = NONE;
    int monitored = 0;
    for (int i = 0; i < t->size; i++) {
        if (t->ranks[i].unmonitored)
            continue;
        enum trouble trouble = trouble_of(t, &t->ranks[i], now);
        monitored++;
        if (trouble > worst) {
            worst = trouble;
            *culprit = i;
            *others = 0;
        } else if (trouble == worst && trouble != NONE) {
            ++*others;
            if (trouble <= STUCK)
                *culprit = further_behind(t, *culprit, i);
        }
    }
    return worst == WAITING && (monitored < 2 || *others + 1 < monitored) ? NONE : worst;
}

#define RESUME " Run again with --resume=auto"

enum status watchdog_table_check(const struct watchdog_table *t, double now, char line[WATCHDOG_LINE_BYTES])
{
    int culprit = NO_RANK, others = 0;
    enum trouble trouble = find_trouble(t, now, &culprit, &others);
    char name[128], place[64];
    if (trouble == NONE)
        return STATUS_OK;
    const struct watchdog_entry *e = &t->ranks[culprit];
    int length = snprintf(name, sizeof name, "rank %d on %s", culprit, e->host);
    if (others && trouble > STUCK)
        snprintf(name + length, sizeof name - (size_t)length, " (and %d more)", others);
    snprintf(place, sizeof place, "in step %lld, %s", (long long)e->progress.step, phases[e->progress.phase].name);
    switch (trouble) {
    case LOST:
        snprintf(line, WATCHDOG_LINE_BYTES,
                 "%s ended without a word %s: killed, out of memory, or its node failed." RESUME, name, place);
        return STATUS_LOST;
    case SILENT:
        snprintf(line, WATCHDOG_LINE_BYTES,
                 "%s hangs: not heard of for %.0f s, last %s: stopped, or its node or link is down." RESUME, name,
                 now - e->last_heard, place);
        return STATUS_HUNG;
    case STUCK:
        snprintf(line, WATCHDOG_LINE_BYTES, "%s hangs: no progress for %.0f s %s%s" RESUME, name,
                 now - e->last_progress, place, phases[e->progress.phase].advice);
        return STATUS_HUNG;
    default:
        snprintf(line, WATCHDOG_LINE_BYTES,
                 "all ranks wait for one another; %s is furthest behind, %s, for %.0f s: is the network alive?" RESUME,
                 name, place, now - e->last_progress);
        return STATUS_HUNG;
    }
}
