/* graph_cache.c - captures work as graphs and launches them. Work is captured as a whole before any of it runs, so a
 * failure leaves nothing half done: the work is then queued call by call, and so is all later work. */
#include "layers/graph_cache.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

/* A graph, and how many parts of the whole work are final at its end. */
struct segment {
    struct device_graph *graph; /* NULL: no work */
    int parts;
};

struct cached_graph {
    struct graph_key key;
    struct segment *segments;
    int count;
    size_t capacity;
    int parts;      /* final so far during capture */
    bool capturing; /* between graph_capture_begin and _end */
    bool complete;
};

static bool same_key(const struct graph_key *a, const struct graph_key *b)
{
    return a->memory[0] == b->memory[0] && a->memory[1] == b->memory[1] && a->memory[2] == b->memory[2] &&
           a->count == b->count && a->kind == b->kind && a->scalar == b->scalar;
}

/* *found is NULL the first time a key comes, and always once the cache is full. */
static enum status find(struct graph_cache *cache, const struct graph_key *key, struct cached_graph **found)
{
    enum status status = STATUS_OK;
    *found = NULL;
    for (int i = 0; i < cache->count; i++)
        if (same_key(&cache->entries[i]->key, key)) {
            *found = cache->entries[i];
            return STATUS_OK;
        }
    if (cache->count == GRAPH_CACHE_ENTRIES) {
        if (!cache->warned_full)
            log_warn(
                "more than %d kinds of passes: further ones are launched operation by operation, not as CUDA graphs",
                GRAPH_CACHE_ENTRIES);
        cache->warned_full = true;
        return STATUS_OK;
    }
    cache->entries[cache->count] = calloc(1, sizeof **cache->entries);
    if (!cache->entries[cache->count])
        FAIL(STATUS_NOMEM, "out of memory");
    cache->entries[cache->count++]->key = *key;
fail:
    return status;
}

static void clear(struct graph_cache *cache, struct cached_graph *entry)
{
    for (int i = 0; i < entry->count; i++)
        cache->device->ops->graph_free(cache->device, entry->segments[i].graph);
    free(entry->segments);
    *entry = (struct cached_graph){ .key = entry->key };
}

/* ---- capture ---- */

static enum status begin_segment(struct graph_cache *cache)
{
    enum status status = STATUS_OK;
    struct cached_graph *entry = cache->capturing;
    TRY(array_grow(&entry->segments, &entry->capacity, (size_t)entry->count + 1, sizeof *entry->segments));
    TRY(cache->device->ops->graph_capture_begin(cache->device));
    entry->capturing = true;
fail:
    return status;
}

static enum status end_segment(struct graph_cache *cache)
{
    enum status status = STATUS_OK;
    struct cached_graph *entry = cache->capturing;
    struct device_graph *graph = NULL;
    entry->capturing = false;
    TRY(cache->device->ops->graph_capture_end(cache->device, &graph));
    entry->segments[entry->count++] = (struct segment){ graph, entry->parts };
fail:
    return status;
}

static enum status capture(struct graph_cache *cache, struct cached_graph *entry)
{
    enum status status = STATUS_OK;
    struct status_record why;
    cache->capturing = entry;
    TRY(begin_segment(cache));
    TRY(cache->work->queue(cache->work->context));
    TRY(end_segment(cache));
    entry->complete = true;
fail:
    if (status != STATUS_OK) {
        status_save(&why);
        if (entry->capturing)
            end_segment(cache);
        clear(cache, entry);
        status_restore(&why);
    }
    cache->capturing = NULL;
    return status;
}

enum status graph_cache_ready(struct graph_cache *cache, int part)
{
    enum status status = STATUS_OK;
    const struct gradient_sink *sink = cache->work ? cache->work->sink : NULL;
    if (!sink)
        return STATUS_OK;
    if (!cache->capturing)
        return sink->ready(sink->context, part);
    cache->capturing->parts = part + 1;
    if (sink->must_flush(sink->context, part)) {
        TRY(end_segment(cache));
        TRY(begin_segment(cache));
    }
fail:
    return status;
}

/* ---- launch ---- */

static enum status launch(struct graph_cache *cache, const struct cached_graph *entry)
{
    enum status status = STATUS_OK;
    const struct gradient_sink *sink = cache->work->sink;
    int parts = 0;
    for (int i = 0; i < entry->count; i++) {
        const struct segment *segment = &entry->segments[i];
        if (segment->graph)
            TRY(cache->device->ops->graph_launch(cache->device, segment->graph));
        for (; sink && parts < segment->parts; parts++)
            TRY(sink->ready(sink->context, parts));
    }
fail:
    return status;
}

enum status graph_cache_run(struct graph_cache *cache, const struct graph_key *key, const struct graph_work *work)
{
    enum status status = STATUS_OK;
    struct cached_graph *entry = NULL;
    cache->work = work;
    if (cache->device->ops->graph_capture_begin && !cache->device->no_graphs && !work->uncapturable)
        TRY(find(cache, key, &entry));
    if (entry && !entry->complete && capture(cache, entry) != STATUS_OK) {
        log_warn("CUDA graph capture failed, so the GPU's operations are launched one by one: %s", status_message());
        status_clear();
        cache->device->no_graphs = true;
    }
    if (entry && entry->complete)
        TRY(launch(cache, entry));
    else
        TRY(work->queue(work->context));
fail:
    cache->work = NULL;
    return status;
}

bool graph_cache_has_graph(const struct graph_cache *cache)
{
    for (int i = 0; i < cache->count; i++)
        if (cache->entries[i]->complete)
            return true;
    return false;
}

void graph_cache_clear(struct graph_cache *cache)
{
    for (int i = 0; i < cache->count; i++) {
        clear(cache, cache->entries[i]);
        free(cache->entries[i]);
    }
    cache->count = 0;
}
