/* fake_graph.c - CUDA's graphs over fake_cuda.c. While a stream is captured, what is queued on it is kept, with a copy of its
 * arguments, and not done; a call that would have to wait, takes memory or copies from or to the host is refused and spoils the
 * capture, as does an event that leaves or enters it. One stream at a time. */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "tests/layers/fake_cuda.h"

struct kept {
    fake_cuda_work *work;
    void *arguments; /* owned */
};

struct fake_graph {
    struct kept *list;
    size_t count, room;
};

bool fake_last_was_graph;

static struct {
    cudaStream_t stream; /* NULL: none is being captured */
    struct fake_graph *graph;
    cudaError_t spoilt;
} capture;

bool fake_graph_captures(cudaStream_t stream)
{
    return stream && capture.stream == stream;
}

bool fake_graph_captures_any(void)
{
    return capture.stream != NULL;
}

cudaError_t fake_graph_forbids(cudaError_t error)
{
    if (!capture.stream)
        return cudaSuccess;
    capture.spoilt = cudaErrorStreamCaptureInvalidated;
    return error;
}

cudaError_t fake_cuda_queue(cudaStream_t stream, fake_cuda_work *work, const void *arguments, size_t bytes)
{
    struct fake_graph *g = capture.graph;
    if (!fake_graph_captures(stream)) {
        fake_counts.queued++;
        fake_last_was_graph = false;
        work(arguments);
        return cudaSuccess;
    }
    if (capture.spoilt != cudaSuccess)
        return capture.spoilt;
    if (g->count == g->room) {
        g->room = g->room ? 2 * g->room : 64;
        g->list = realloc(g->list, g->room * sizeof *g->list);
    }
    void *copy = malloc(bytes);
    if (!g->list || !copy)
        abort();
    memcpy(copy, arguments, bytes);
    g->list[g->count++] = (struct kept){ work, copy };
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    if (!stream || mode != cudaStreamCaptureModeThreadLocal)
        return cudaErrorInvalidValue;
    if (capture.stream)
        return cudaErrorIllegalState;
    capture.graph = calloc(1, sizeof *capture.graph);
    if (!capture.graph)
        return cudaErrorMemoryAllocation;
    capture.stream = stream;
    capture.spoilt = cudaSuccess;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    if (!fake_graph_captures(stream))
        return cudaErrorIllegalState;
    *graph = capture.graph;
    capture.stream = NULL;
    if (capture.spoilt != cudaSuccess) {
        cudaGraphDestroy(*graph);
        *graph = NULL;
    }
    return capture.spoilt;
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

/* The executable graph outlives the graph. CSC_FAKE_GRAPH="fails": none can be made. */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    const char *told = getenv("CSC_FAKE_GRAPH");
    if (flags != 0 || graph->count == 0)
        return cudaErrorInvalidValue;
    if (told && strcmp(told, "fails") == 0)
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

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    cudaError_t error = fake_graph_forbids(cudaErrorStreamCaptureUnsupported);
    if (error == cudaSuccess)
        error = fake_cuda_catch_up(stream);
    if (error != cudaSuccess)
        return error;
    fake_counts.graphs++;
    fake_last_was_graph = true;
    for (size_t i = 0; i < exec->count; i++)
        exec->list[i].work(exec->list[i].arguments);
    return cudaSuccess;
}
