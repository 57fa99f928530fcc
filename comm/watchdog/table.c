/* table.c - who hangs: first ranks whose connection ended, then silent ones, then those that are heard but do not move.
 * A rank that waits for others is never the culprit while one that does not wait is left. */
#include "comm/watchdog/table.h"

#include <stdio.h>

static const struct {
    const char *name, *advice;
    bool takes_long;
} phases[WATCH_PHASES] = {
    [WATCH_STARTING] = { "starting", "", true },
    [WATCH_LOADING] = { "loading data", ": is its storage alive?", false },
    [WATCH_COMPUTING] = { "computing", ": is its device alive?", false },
    [WATCH_EXCHANGING] = { "exchanging gradients", ": is the network alive?", false },
    [WATCH_UPDATING] = { "updating weights", ": is its device alive?", false },
    [WATCH_EVALUATING] = { "evaluating", "", true },
    [WATCH_SAVING] = { "saving a checkpoint", ": is its storage alive?", true },
    [WATCH_ENDING] = { "ending", "", true },
};

const char *watch_phase_name(enum watch_phase phase)
{
    return phases[phase].name;
}

void watch_table_beat(struct watch_table *t, int rank, const struct watch_place *place, double now)
{
    struct watch_entry *e = &t->ranks[rank];
    if (place->beat != e->place.beat)
        e->moved = now;
    e->place = *place;
    e->heard = now;
}

void watch_table_shift(struct watch_table *t, double seconds)
{
    for (int i = 0; i < t->size; i++) {
        t->ranks[i].heard += seconds;
        t->ranks[i].moved += seconds;
    }
}

bool watch_table_silent(const struct watch_table *t, int rank, double now)
{
    const struct watch_entry *e = &t->ranks[rank];
    return !e->left && now - e->heard > (e->lost ? 0 : t->timeout);
}

static double limit(const struct watch_table *t, const struct watch_entry *e)
{
    return phases[e->place.phase].takes_long ? WATCH_LONG * t->timeout : t->timeout;
}

/* "rank 3 on HOST", with the number of others that are like it. */
static const char *who(char text[128], const struct watch_table *t, int rank, int others)
{
    int length = snprintf(text, 128, "rank %d on %s", rank, t->ranks[rank].host);
    if (others)
        snprintf(text + length, (size_t)(128 - length), " (and %d more)", others);
    return text;
}

static bool waits(const struct watch_entry *e)
{
    return e->place.waits || e->place.phase == WATCH_EXCHANGING;
}

/* The one furthest behind of two that do not move. */
static int behind(const struct watch_table *t, int a, int b)
{
    const struct watch_entry *x = &t->ranks[a], *y = &t->ranks[b];
    if (x->place.step != y->place.step)
        return x->place.step < y->place.step ? a : b;
    return x->moved <= y->moved ? a : b;
}

static enum status judge_stuck(const struct watch_table *t, double now, char line[512])
{
    int culprit = -1, last = -1, judged = 0;
    bool all_wait = true;
    for (int i = 0; i < t->size; i++) {
        const struct watch_entry *e = &t->ranks[i];
        if (e->left)
            continue;
        judged++;
        bool stuck = now - e->moved > limit(t, e);
        if (!waits(e) && stuck)
            culprit = culprit < 0 ? i : behind(t, culprit, i);
        all_wait = all_wait && waits(e) && stuck;
        last = last < 0 ? i : behind(t, last, i);
    }
    char name[128];
    if (culprit >= 0) {
        const struct watch_entry *e = &t->ranks[culprit];
        snprintf(line, 512, "%s hangs: no progress for %.0f s in step %lld, %s%s Run again with --resume=auto",
                 who(name, t, culprit, 0), now - e->moved, (long long)e->place.step, phases[e->place.phase].name,
                 phases[e->place.phase].advice[0] ? phases[e->place.phase].advice : ".");
        return STATUS_HUNG;
    }
    if (judged > 1 && all_wait) {
        const struct watch_entry *e = &t->ranks[last];
        snprintf(line, 512,
                 "all ranks wait for one another; %s is furthest behind, in step %lld, %s, for %.0f s: is the "
                 "network alive? Run again with --resume=auto",
                 who(name, t, last, 0), (long long)e->place.step, phases[e->place.phase].name, now - e->moved);
        return STATUS_HUNG;
    }
    return STATUS_OK;
}

enum status watch_table_judge(const struct watch_table *t, double now, char line[512])
{
    int lost = -1, silent = -1, all_lost = 0, all_silent = 0;
    char name[128];
    for (int i = t->size - 1; i >= 0; i--) {
        const struct watch_entry *e = &t->ranks[i];
        if (e->left)
            continue;
        if (e->lost && now - e->heard > WATCH_LOST_AFTER) {
            lost = i;
            all_lost++;
        } else if (!e->lost && now - e->heard > t->timeout) {
            silent = i;
            all_silent++;
        }
    }
    if (lost >= 0) {
        const struct watch_entry *e = &t->ranks[lost];
        snprintf(line, 512,
                 "%s ended without a word in step %lld, %s: killed, out of memory, or its node failed. Run again "
                 "with --resume=auto",
                 who(name, t, lost, all_lost - 1), (long long)e->place.step, phases[e->place.phase].name);
        return STATUS_LOST;
    }
    if (silent >= 0) {
        const struct watch_entry *e = &t->ranks[silent];
        snprintf(line, 512,
                 "%s hangs: not heard of for %.0f s, last in step %lld, %s: stopped, or its node or link is "
                 "down. Run again with --resume=auto",
                 who(name, t, silent, all_silent - 1), now - e->heard, (long long)e->place.step,
                 phases[e->place.phase].name);
        return STATUS_HUNG;
    }
    return judge_stuck(t, now, line);
}
