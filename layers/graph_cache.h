/* graph_cache.h - work that a device is given again and again: call by call the first time, when plans are still chosen
 * and memory is taken; recorded the second time (backend.h's record), and from then on replayed as a whole, in as many
 * pieces as somebody has to step in between. Where the device records nothing, or has failed to once, call by call
 * always. */
#ifndef CSC_LAYERS_GRAPH_CACHE_H
#define CSC_LAYERS_GRAPH_CACHE_H

#include "layers/backend/backend.h"

/* What tells one work from another; all else that it is made of must stay the same. */
struct graph_key {
    const void *memory[3];
    int count;
    unsigned kind;
    float scalar;
};

struct graph_work {
    /* Queues it, with graph_cache_boundary wherever something beyond the device may follow. More than once, where
     * recording fails. */
    enum status (*queue)(void *context);
    /* Point n (0, 1 ...) has been reached; never while recording. NULL: nothing follows. */
    enum status (*boundary)(void *context, int n);
    /* Whether at point n what was queued before it must be under way; else point n may come later. NULL: nowhere. */
    bool (*must_flush)(void *context, int n);
    bool uncapturable; /* to be recorded: it asks the device while it is queued */
    void *context;
};

struct cached_graph;
enum { GRAPH_CACHE_ENTRIES = 32 }; /* kinds of work; what comes beyond is never recorded */
struct graph_cache {
    struct device *device;
    struct cached_graph *entries[GRAPH_CACHE_ENTRIES];
    int count;
    const struct graph_work *work;  /* under way, */
    struct cached_graph *capturing; /* being recorded there */
};

/* tape: zeros and its device. */
enum status graph_cache_run(struct graph_cache *cache, const struct graph_key *key, const struct graph_work *work);
/* Whether any of its work is a graph of the device by now. */
bool graph_cache_has_graph(const struct graph_cache *cache);
enum status graph_cache_boundary(struct graph_cache *cache, int n);
void graph_cache_clear(struct graph_cache *cache); /* everything; what it works on will change, or end */

#endif
