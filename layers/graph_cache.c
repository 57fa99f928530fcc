/* graph_cache.c - work is recorded whole before any of it is done, so that a failure leaves nothing half done: it is
 * then queued call by call, and so is all later work. */
#include "layers/graph_cache.h"

#include <stdlib.h>

#include "base/log.h"

struct piece {
    struct device_graph *graph; /* NULL: no work */
    int points;                 /* that have been reached behind it */
};

struct recording {
    struct tape_key key;
    struct piece *pieces;
    int count, room;
    int points; /* reached so far */
    bool open;  /* the device records */
    bool complete;
};

static bool alike(const struct tape_key *a, const struct tape_key *b)
{
    return a->memory[0] == b->memory[0] && a->memory[1] == b->memory[1] && a->memory[2] == b->memory[2] &&
           a->count == b->count && a->kind == b->kind && a->number == b->number;
}

/* *found is NULL for work that comes for the first time, or once too many kinds of it have come. */
static enum status find(struct tape *r, const struct tape_key *key, struct recording **found)
{
    enum status status = STATUS_OK;
    *found = NULL;
    for (int i = 0; i < r->count; i++)
        if (alike(&r->list[i]->key, key)) {
            *found = r->list[i];
            return STATUS_OK;
        }
    if (r->count == TAPE_MOST)
        return STATUS_OK;
    r->list[r->count] = calloc(1, sizeof **r->list);
    if (!r->list[r->count])
        FAIL(STATUS_NOMEM, "out of memory");
    r->list[r->count++]->key = *key;
fail:
    return status;
}

static void clear(struct tape *r, struct recording *into)
{
    for (int i = 0; i < into->count; i++)
        r->device->ops->forget(r->device, into->pieces[i].graph);
    free(into->pieces);
    *into = (struct recording){ .key = into->key };
}

/* ---- recording ---- */

static enum status begin_piece(struct tape *r)
{
    enum status status = STATUS_OK;
    struct recording *into = r->into;
    if (into->count == into->room) {
        int room = into->room ? 2 * into->room : 8;
        struct piece *pieces = realloc(into->pieces, (size_t)room * sizeof *pieces);
        if (!pieces)
            FAIL(STATUS_NOMEM, "out of memory");
        into->pieces = pieces;
        into->room = room;
    }
    TRY(r->device->ops->record(r->device));
    into->open = true;
fail:
    return status;
}

static enum status end_piece(struct tape *r)
{
    enum status status = STATUS_OK;
    struct recording *into = r->into;
    struct device_graph *graph = NULL;
    into->open = false;
    TRY(r->device->ops->recorded(r->device, &graph));
    into->pieces[into->count++] = (struct piece){ graph, into->points };
fail:
    return status;
}

static enum status record(struct tape *r, struct recording *into)
{
    enum status status = STATUS_OK;
    struct status_record why;
    r->into = into;
    TRY(begin_piece(r));
    TRY(r->work->queue(r->work->context));
    TRY(end_piece(r));
    into->complete = true;
fail:
    if (status != STATUS_OK) {
        status_save(&why);
        if (into->open)
            end_piece(r);
        clear(r, into);
        status_restore(&why);
    }
    r->into = NULL;
    return status;
}

enum status tape_point(struct tape *r, int n)
{
    enum status status = STATUS_OK;
    const struct tape_work *work = r->work;
    if (!r->into)
        return work->point ? work->point(work->context, n) : STATUS_OK;
    r->into->points = n + 1;
    if (work->cuts && work->cuts(work->context, n)) {
        TRY(end_piece(r));
        TRY(begin_piece(r));
    }
fail:
    return status;
}

/* ---- running ---- */

static enum status replay(struct tape *r, const struct recording *from)
{
    enum status status = STATUS_OK;
    int points = 0;
    for (int i = 0; i < from->count; i++) {
        const struct piece *piece = &from->pieces[i];
        if (piece->graph)
            TRY(r->device->ops->replay(r->device, piece->graph));
        for (; r->work->point && points < piece->points; points++)
            TRY(r->work->point(r->work->context, points));
    }
fail:
    return status;
}

enum status tape_run(struct tape *r, const struct tape_key *key, const struct tape_work *work)
{
    enum status status = STATUS_OK;
    struct recording *recording = NULL;
    r->work = work;
    if (r->device->ops->record && !r->device->call_by_call && !work->never)
        TRY(find(r, key, &recording));
    if (recording && !recording->complete && record(r, recording) != STATUS_OK) {
        log_warn("work goes to the GPU call by call, it cannot be recorded: %s", status_message());
        status_clear();
        r->device->call_by_call = true;
    }
    if (recording && recording->complete)
        TRY(replay(r, recording));
    else
        TRY(work->queue(work->context));
fail:
    r->work = NULL;
    return status;
}

bool tape_is_recorded(const struct tape *r)
{
    for (int i = 0; i < r->count; i++)
        if (r->list[i]->complete)
            return true;
    return false;
}

void tape_forget(struct tape *r)
{
    for (int i = 0; i < r->count; i++) {
        clear(r, r->list[i]);
        free(r->list[i]);
    }
    r->count = 0;
}
