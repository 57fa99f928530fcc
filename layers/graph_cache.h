/* graph_cache.h - runs work that a device is given again and again as captured graphs (backend.h).
 * The first time a key comes, the work is queued call by call, so that plans are chosen and memory is taken. The second
 * time it is captured, and from then on the captured graph is launched, split into segments wherever the caller must
 * act in between. Work is always queued call by call where the device has no graphs, or after a capture has failed
 * once. */
#ifndef CSC_LAYERS_GRAPH_CACHE_H
#define CSC_LAYERS_GRAPH_CACHE_H

#include "base/gradient_sink.h"
#include "layers/backend/backend.h"

/* Tells works apart. Everything else that a work depends on must stay the same until graph_cache_clear. */
struct graph_key {
    const void *memory[3]; /* the sink, too */
    int count;
    unsigned kind;
    float scalar;
};

struct graph_work {
    /* Queues the work and calls graph_cache_ready for parts that are final. May be called again if capture fails. */
    enum status (*queue)(void *context);
    void *context;
    const struct gradient_sink *sink; /* told of the parts whenever the work runs, but not during capture; or NULL */
    bool uncapturable;                /* the work waits for the device while it is queued, so it is never captured */
};

struct cached_graph;
enum { GRAPH_CACHE_ENTRIES = 32 }; /* keys; work of further ones is never captured, which is logged once */
struct graph_cache {
    struct device *device;
    struct cached_graph *entries[GRAPH_CACHE_ENTRIES];
    int count;
    bool warned_full;
    const struct graph_work *work;  /* that graph_cache_run is running, or NULL */
    struct cached_graph *capturing; /* the entry that it is being captured into, or NULL */
};

/* The cache starts as zeros with its device set. */
enum status graph_cache_run(struct graph_cache *cache, const struct graph_key *key, const struct graph_work *work);
/* Whether the device has captured any of its work. */
bool graph_cache_has_graph(const struct graph_cache *cache);
/* Part 0, 1 ... of the work that is being queued is final. Does nothing outside graph_cache_run. */
enum status graph_cache_ready(struct graph_cache *cache, int part);
/* Frees all graphs; to be called before anything they refer to changes or is freed. */
void graph_cache_clear(struct graph_cache *cache);

#endif
