/* graph.c - recording into CUDA graphs. A capture of the compute stream takes no wait, no memory and no copy from the
 * host; what tries leaves a reason, and the recording fails. */
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

static enum status record(struct device *device)
{
    enum status status = STATUS_OK;
    struct gpu *gpu = of(device);
    if (gpu->failure.code != STATUS_OK)
        return status_restore(&gpu->failure);
    cuda_queue(device);
    /* this thread's calls only: NCCL's threads take memory whenever they like */
    cudaError_t error = cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess)
        FAIL(STATUS_LOST, "CUDA does not begin a graph: %s", cudaGetErrorString(error));
    gpu->capturing = true;
    gpu->capture_failure = NULL;
fail:
    return status;
}

/* *made stays NULL for a graph of nothing. */
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
        error = cudaGraphInstantiate(&g->exec, graph, cudaGraphInstantiateFlagUseNodePriority); /* the lanes' */
    if (error != cudaSuccess)
        FAIL(STATUS_LOST, "CUDA makes no graph of %zu operations: %s", nodes, cudaGetErrorString(error));
    *made = g;
    g = NULL;
fail:
    free(g);
    return status;
}

static enum status recorded(struct device *device, struct device_graph **made)
{
    enum status status = STATUS_OK;
    struct gpu *gpu = of(device);
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(gpu->stream, &graph);
    cudaError_t launch = cudaGetLastError(); /* of a kernel, or this one */
    *made = NULL;
    gpu->capturing = false;
    cuda_queue(device);
    if (gpu->capture_failure)
        FAIL(STATUS_USAGE, "%s", gpu->capture_failure);
    if (error != cudaSuccess || launch != cudaSuccess)
        FAIL(STATUS_LOST, "CUDA: %s", cudaGetErrorString(error != cudaSuccess ? error : launch));
    TRY(instantiate(graph, made));
fail:
    if (graph)
        cudaGraphDestroy(graph);
    return status;
}

static enum status replay(struct device *device, struct device_graph *graph)
{
    struct gpu *gpu = of(device);
    cuda_queue(device);
    GPU_CHECK(gpu, cudaGraphLaunch(graph->exec, gpu->stream));
    return gpu->failure.code != STATUS_OK ? status_restore(&gpu->failure) : STATUS_OK;
}

static void forget(struct device *device, struct device_graph *graph)
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
    table->record = record;
    table->recorded = recorded;
    table->replay = replay;
    table->forget = forget;
}
