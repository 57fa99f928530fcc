/* fake_graph.c - CUDA's graphs over fake_cuda.c. What is queued on a captured stream is kept, with a copy of its
 * arguments. A call that would wait, allocate, or copy from or to the host is refused and invalidates the capture;
 * so do an event that crosses its border and work on a stream outside it. There is one capture at a time, of a
 * stream and of those that wait for its events; it must wait for them before it ends. From launch to launch a
 * graph's streams take turns, or the first or the last one runs as far as its events allow: this shows streams that
 * share memory, and waits that are missing. */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu_emulation/fake_cuda.h"

enum order { IN_TURNS, FIRST_FIRST, LAST_FIRST, ORDERS };

struct captured_work {
    fake_cuda_work *work;
    void *arguments;                               /* owned */
    int stream, before[FAKE_MAX_CAPTURED_STREAMS]; /* the stream's index in the capture; how much of each stream must be
                                                      done before */
};

struct fake_graph {
    struct captured_work *list;
    size_t count, capacity;
};

bool fake_last_was_graph;

static struct {
    int number;                                      /* number of captures so far */
    cudaStream_t streams[FAKE_MAX_CAPTURED_STREAMS]; /* streams[0] began the capture */
    int count;                                       /* number of streams; 0: there is no capture */
    int seen[FAKE_MAX_CAPTURED_STREAMS]
            [FAKE_MAX_CAPTURED_STREAMS]; /* [i][j]: how much of stream j comes before the next work of stream i */
    struct fake_graph *graph;
    cudaError_t invalidated;
} capture;

/* Returns -1 if the stream is not captured. */
static int index_of(cudaStream_t stream)
{
    for (int i = 0; i < capture.count; i++)
        if (capture.streams[i] == stream)
            return i;
    return -1;
}

bool fake_graph_captures(cudaStream_t stream)
{
    return index_of(stream) >= 0;
}

bool fake_graph_captures_any(void)
{
    return capture.count > 0;
}

void fake_graph_position(cudaStream_t stream, struct fake_position *position)
{
    int at = index_of(stream);
    *position = (struct fake_position){ 0 };
    if (at < 0)
        return;
    position->capture = capture.number;
    memcpy(position->seen, capture.seen[at], sizeof position->seen);
}

cudaError_t fake_graph_follow(cudaStream_t stream, const struct fake_position *position)
{
    int at = index_of(stream);
    if (capture.count == 0 || position->capture != capture.number ||
        (at < 0 && capture.count == FAKE_MAX_CAPTURED_STREAMS))
        return fake_graph_forbid(cudaErrorStreamCaptureIsolation); /* the event crosses the capture's border */
    if (capture.invalidated != cudaSuccess)
        return capture.invalidated;
    if (at < 0) {
        at = capture.count++;
        capture.streams[at] = stream;
        capture.seen[at][at] = 1;
    }
    for (int i = 0; i < FAKE_MAX_CAPTURED_STREAMS; i++)
        capture.seen[at][i] = position->seen[i] > capture.seen[at][i] ? position->seen[i] : capture.seen[at][i];
    return cudaSuccess;
}

cudaError_t fake_graph_forbid(cudaError_t error)
{
    if (capture.count == 0)
        return cudaSuccess;
    capture.invalidated = cudaErrorStreamCaptureInvalidated;
    return error;
}

cudaError_t fake_cuda_enqueue(cudaStream_t stream, fake_cuda_work *work, const void *arguments, size_t bytes)
{
    struct fake_graph *g = capture.graph;
    int at = index_of(stream);
    if (at < 0) {
        fake_graph_forbid(cudaErrorStreamCaptureIsolation);
        fake_counts.queued++;
        fake_last_was_graph = false;
        work(arguments);
        return cudaSuccess;
    }
    if (capture.invalidated != cudaSuccess)
        return capture.invalidated;
    if (g->count == g->capacity) {
        g->capacity = g->capacity ? 2 * g->capacity : 64;
        g->list = realloc(g->list, g->capacity * sizeof *g->list);
    }
    void *copy = malloc(bytes);
    if (!g->list || !copy)
        abort();
    memcpy(copy, arguments, bytes);
    g->list[g->count] = (struct captured_work){ .work = work, .arguments = copy, .stream = at };
    memcpy(g->list[g->count++].before, capture.seen[at], sizeof capture.seen[at]);
    capture.seen[at][at]++;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    if (!stream || mode != cudaStreamCaptureModeThreadLocal)
        return cudaErrorInvalidValue;
    if (capture.count > 0)
        return cudaErrorIllegalState;
    capture.graph = calloc(1, sizeof *capture.graph);
    if (!capture.graph)
        return cudaErrorMemoryAllocation;
    memset(capture.seen, 0, sizeof capture.seen);
    capture.number++;
    capture.streams[0] = stream;
    capture.count = 1;
    capture.invalidated = cudaSuccess;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    if (index_of(stream) != 0)
        return cudaErrorIllegalState;
    for (int i = 1; i < capture.count; i++)
        if (capture.seen[0][i] < capture.seen[i][i] && capture.invalidated == cudaSuccess)
            capture.invalidated = cudaErrorStreamCaptureUnjoined;
    *graph = capture.graph;
    capture.count = 0;
    if (capture.invalidated != cudaSuccess) {
        cudaGraphDestroy(*graph);
        *graph = NULL;
    }
    return capture.invalidated;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    for (size_t i = 0; i < graph->count; i++)
        free(graph->list[i].arguments);
    free(graph->list);
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes)
        return cudaErrorInvalidValue;
    *count = graph->count;
    return cudaSuccess;
}

/* Moves the graph's work into the executable graph. CSC_FAKE_GRAPH=fails: this fails. */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    const char *setting = getenv("CSC_FAKE_GRAPH");
    if (flags != cudaGraphInstantiateFlagUseNodePriority || graph->count == 0)
        return cudaErrorInvalidValue;
    if (setting && strcmp(setting, "fails") == 0)
        return cudaErrorMemoryAllocation;
    *exec = malloc(sizeof **exec);
    if (!*exec)
        return cudaErrorMemoryAllocation;
    **exec = *graph; /* moved */
    *graph = (struct fake_graph){ 0 };
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    return cudaGraphDestroy(exec);
}

static bool ready(const struct captured_work *captured, const int *done)
{
    for (int i = 0; i < FAKE_MAX_CAPTURED_STREAMS; i++)
        if (done[i] < captured->before[i])
            return false;
    return true;
}

/* The next stream to try after s, which has either run work or had to wait. */
static int turn_after(int s, enum order order, bool went_on)
{
    if (order == IN_TURNS || !went_on)
        return (order == LAST_FIRST ? s + FAKE_MAX_CAPTURED_STREAMS - 1 : s + 1) % FAKE_MAX_CAPTURED_STREAMS;
    return order == FIRST_FIRST ? 0 : FAKE_MAX_CAPTURED_STREAMS - 1;
}

static void run_graph(const struct fake_graph *g, enum order order)
{
    size_t at[FAKE_MAX_CAPTURED_STREAMS] = { 0 }, left = g->count;
    int done[FAKE_MAX_CAPTURED_STREAMS] = { 0 };
    for (int s = 1; s < FAKE_MAX_CAPTURED_STREAMS; s++)
        done[s] = 1; /* its entry into the capture */
    for (int s = 0, next; left > 0; s = next) {
        while (at[s] < g->count && g->list[at[s]].stream != s)
            at[s]++;
        bool goes_on = at[s] < g->count && ready(&g->list[at[s]], done);
        next = turn_after(s, order, goes_on);
        if (!goes_on)
            continue;
        g->list[at[s]].work(g->list[at[s]].arguments);
        at[s]++;
        done[s]++;
        left--;
    }
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    cudaError_t error = fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    if (error == cudaSuccess)
        error = fake_cuda_finish_copies(stream);
    if (error != cudaSuccess)
        return error;
    fake_counts.graphs++;
    fake_last_was_graph = true;
    run_graph(exec, (enum order)(fake_counts.graphs % ORDERS));
    return cudaSuccess;
}
