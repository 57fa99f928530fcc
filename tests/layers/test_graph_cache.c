/* test_graph_cache.c - when work is queued, captured and launched, in which segments, and when its parts are reported,
 * on a device that only counts. */
#include "layers/graph_cache.h"
#include "tests/check.h"

struct device_graph {
    int operations; /* captured in it */
};

static int captured, launched, queued; /* operations in the capture under way; launched in graphs; queued directly */
static int graphs;                     /* that exist */
static bool capturing, fails;

static enum status begin(struct device *device)
{
    (void)device;
    capturing = true;
    captured = 0;
    return STATUS_OK;
}

static enum status end(struct device *device, struct device_graph **graph)
{
    enum status status = STATUS_OK;
    (void)device;
    capturing = false;
    *graph = NULL;
    if (fails)
        FAIL(STATUS_USAGE, "the test wants it");
    if (captured == 0)
        return STATUS_OK;
    *graph = malloc(sizeof **graph);
    if (!*graph)
        FAIL(STATUS_NOMEM, "out of memory");
    (*graph)->operations = captured;
    graphs++;
fail:
    return status;
}

static enum status launch(struct device *device, struct device_graph *graph)
{
    (void)device;
    launched += graph->operations;
    return STATUS_OK;
}

static void free_graph(struct device *device, struct device_graph *graph)
{
    (void)device;
    graphs -= graph != NULL;
    free(graph);
}

static const struct backend counting = {
    .graph_capture_begin = begin, .graph_capture_end = end, .graph_launch = launch, .graph_free = free_graph
};

static struct device device = { .ops = &counting };
static struct graph_cache cache = { .device = &device };
static int parts, ready[3]; /* reported; operations that had run when each was */

/* An operation before the end of each of three parts, and one after the last. */
static enum status queue(void *context)
{
    enum status status = STATUS_OK;
    (void)context;
    for (int i = 0; i < 4; i++) {
        *(capturing ? &captured : &queued) += 1;
        if (i < 3)
            TRY(graph_cache_ready(&cache, i));
    }
fail:
    return status;
}

static enum status reached(void *context, int n)
{
    (void)context;
    CHECK(!capturing && n == parts, "part %d is reported after %d others%s", n, parts,
          capturing ? ", during capture" : "");
    ready[parts++ % 3] = queued + launched;
    return STATUS_OK;
}

static bool flush_second(void *context, int n)
{
    (void)context;
    return n == 1;
}

static const struct gradient_sink sink = { .ready = reached, .must_flush = flush_second };
static const struct graph_work work = { .queue = queue, .sink = &sink };

static void run(int count, const struct graph_work *what)
{
    const struct graph_key key = { .count = count };
    queued = launched = parts = 0;
    CHECK(graph_cache_run(&cache, &key, what) == STATUS_OK, "%s", status_message());
    CHECK(parts == 3, "%d parts are reported", parts);
}

/* Parts 0 and 1 are reported when two operations have run, part 2 when all have. */
static void check_launched(void)
{
    CHECK(queued == 0 && launched == 4, "%d operations are queued and %d launched", queued, launched);
    CHECK(ready[0] == 2 && ready[1] == 2 && ready[2] == 4, "%d, %d and %d operations ran before the reports", ready[0],
          ready[1], ready[2]);
}

int main(void)
{
    struct graph_work uncapturable = work;
    uncapturable.uncapturable = true;
    for (int i = 0; i < 3; i++) {
        run(1, &uncapturable);
        CHECK(queued == 4 && launched == 0 && ready[0] == 1 && ready[2] == 3, "uncapturable work is not queued");
    }
    run(1, &work);
    CHECK(queued == 4 && !graph_cache_has_graph(&cache), "the first time work is not queued");
    for (int i = 0; i < 3; i++) {
        run(1, &work);
        check_launched();
    }
    CHECK(graph_cache_has_graph(&cache) && graphs == 2, "%d graphs of one work in two segments", graphs);

    for (int key = 2; key <= GRAPH_CACHE_ENTRIES + 2; key++)
        for (int i = 0; i < 2; i++) {
            run(key, &work);
            if (i == 1 && key <= GRAPH_CACHE_ENTRIES)
                check_launched();
            else
                CHECK(queued == 4 && launched == 0, "key %d, time %d: not queued", key, i);
        }
    CHECK(graphs == 2 * GRAPH_CACHE_ENTRIES, "%d graphs", graphs);
    run(1, &work);
    check_launched();
    graph_cache_clear(&cache);
    CHECK(graphs == 0 && !graph_cache_has_graph(&cache), "%d graphs are left", graphs);

    fails = true;
    run(1, &work);
    for (int i = 0; i < 2; i++) {
        run(1, &work);
        CHECK(queued == 4 && launched == 0 && device.no_graphs && graphs == 0, "a capture that fails is not queued");
        fails = false; /* and is not tried again */
    }
    graph_cache_clear(&cache);
    return check_done("graph cache");
}
