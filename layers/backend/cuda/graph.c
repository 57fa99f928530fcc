/* graph.c - CUDA graphs. During a capture no call may wait, allocate or copy from or to the host; one that tries
 * leaves a reason, and the end of the capture fails with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/cuda/gpu.h"

struct device_graph {
    cudaGraphExec_t exec;
};

static struct gpu *of(struct device *device)
{
    return (struct gpu *)device;
}

void gpu_fail_capture(struct gpu *gpu, const char *why)
{
    if (gpu->capturing && !gpu->capture_failure)
        gpu->capture_failure = why;
}

static enum status graph_capture_begin(struct device *device)
{
    enum status status = STATUS_OK;
    struct gpu *gpu = of(device);
    if (gpu->failure.code != STATUS_OK)
        return status_restore(&gpu->failure);
    cuda_queue(device);
    /* only this thread's calls are restricted: NCCL's threads allocate memory at any time */
    cudaError_t error = cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess)
        FAIL(STATUS_LOST, "CUDA cannot begin to capture a graph: %s", cudaGetErrorString(error));
    gpu->capturing = true;
    gpu->capture_failure = NULL;
fail:
    return status;
}

/* *made stays NULL if the graph is empty. */
static enum status instantiate(cudaGraph_t graph, struct device_graph **made)
{
    enum status status = STATUS_OK;
    size_t nodes = 0;
    struct device_graph *g = NULL;
    cudaError_t error = cudaGraphGetNodes(graph, NULL, &nodes);
    if (error == cudaSuccess && nodes == 0)
        return STATUS_OK;
    g = calloc(1, sizeof *g);
    if (!g)
        FAIL(STATUS_NOMEM, "out of memory");
    if (error == cudaSuccess)
        error = cudaGraphInstantiate(&g->exec, graph,
                                     cudaGraphInstantiateFlagUseNodePriority); /* keeps the streams' priorities */
    if (error != cudaSuccess)
        FAIL(STATUS_LOST, "CUDA cannot instantiate a graph of %zu operations: %s", nodes, cudaGetErrorString(error));
    *made = g;
    g = NULL;
fail:
    free(g);
    return status;
}

static enum status graph_capture_end(struct device *device, struct device_graph **made)
{
    enum status status = STATUS_OK;
    struct gpu *gpu = of(device);
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(gpu->stream, &graph);
    cudaError_t launch = cudaGetLastError(); /* of a kernel's launch, or of the capture */
    *made = NULL;
    gpu->capturing = false;
    cuda_queue(device);
    if (gpu->capture_failure)
        FAIL(STATUS_USAGE, "%s", gpu->capture_failure);
    if (error != cudaSuccess || launch != cudaSuccess)
        FAIL(STATUS_LOST, "CUDA cannot capture the graph: %s",
             cudaGetErrorString(error != cudaSuccess ? error : launch));
    TRY(instantiate(graph, made));
fail:
    if (graph)
        cudaGraphDestroy(graph);
    return status;
}

static enum status graph_launch(struct device *device, struct device_graph *graph)
{
    struct gpu *gpu = of(device);
    cuda_queue(device);
    GPU_CHECK(gpu, cudaGraphLaunch(graph->exec, gpu->stream));
    return gpu->failure.code != STATUS_OK ? status_restore(&gpu->failure) : STATUS_OK;
}

static void graph_free(struct device *device, struct device_graph *graph)
{
    if (graph)
        GPU_CHECK(of(device), cudaGraphExecDestroy(graph->exec));
    free(graph);
}

void gpu_fill_graph(struct backend *table)
{
    const char *wanted = getenv("CSC_CUDA_GRAPH");
    if (wanted && strcmp(wanted, "0") == 0)
        return;
    table->graph_capture_begin = graph_capture_begin;
    table->graph_capture_end = graph_capture_end;
    table->graph_launch = graph_launch;
    table->graph_free = graph_free;
}
