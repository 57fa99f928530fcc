/* graph_cache.h - work that a device is given again and again: call by call the first time, when plans are still chosen
 * and memory is taken; recorded the second time (backend.h's record), and from then on replayed as a whole, in as many
 * pieces as somebody has to step in between. Where the device records nothing, or has failed to once, call by call
 * always. */
#ifndef CSC_LAYERS_GRAPH_CACHE_H
#define CSC_LAYERS_GRAPH_CACHE_H

#include "layers/backend/backend.h"

/* What tells one work from another; all else that it is made of must stay the same. */
struct tape_key {
    const void *memory[3];
    int count;
    unsigned kind;
    float number;
};

struct tape_work {
    /* Queues it, with tape_point wherever something beyond the device may follow. More than once, where recording
     * fails. */
    enum status (*queue)(void *context);
    /* Point n (0, 1 ...) has been reached; never while recording. NULL: nothing follows. */
    enum status (*point)(void *context, int n);
    /* Whether at point n what was queued before it must be under way; else point n may come later. NULL: nowhere. */
    bool (*cuts)(void *context, int n);
    bool never; /* to be recorded: it asks the device while it is queued */
    void *context;
};

struct recording;
enum { TAPE_MOST = 32 }; /* kinds of work; what comes beyond is never recorded */
struct tape {
    struct device *device;
    struct recording *list[TAPE_MOST];
    int count;
    const struct tape_work *work; /* under way, */
    struct recording *into;       /* being recorded there */
};

/* tape: zeros and its device. */
enum status tape_run(struct tape *tape, const struct tape_key *key, const struct tape_work *work);
/* Whether any of its work is a graph of the device by now. */
bool tape_is_recorded(const struct tape *tape);
enum status tape_point(struct tape *tape, int n);
void tape_forget(struct tape *tape); /* everything; what it works on will change, or end */

#endif
