/* streams.c - several streams at once, between streams_begin and streams_end. All of them wait for the main stream
 * at the beginning, and the main stream waits for all of them at the end. These events also bring the other streams
 * into a capture of the main one and back. Each stream has its own cuDNN handle, workspace and memory for partial
 * sums. */
#include "layers/backend/cuda/gpu.h"

static struct gpu *of(struct device *device)
{
    return (struct gpu *)device;
}

static void record_progress(struct gpu *gpu, int index)
{
    GPU_CHECK(gpu, cudaEventRecord(gpu->streams[index].progress, gpu->streams[index].stream));
}

/* Work queued on stream `index` from now on waits for what the progress event of stream `other` has recorded. */
static void wait_for_stream(struct gpu *gpu, int index, int other)
{
    GPU_CHECK(gpu, cudaStreamWaitEvent(gpu->streams[index].stream, gpu->streams[other].progress, 0));
}

void gpu_select_stream(struct gpu *gpu, int index)
{
    const struct gpu_stream *l = &gpu->streams[index];
    cuda_queue(&gpu->base.base); /* clears the statistics, which lie in the memory of the stream used so far */
    gpu->stream_index = index;
    gpu->stream = l->stream;
    gpu->dnn = l->dnn;
    gpu->workspace = l->workspace;
    gpu->base.queue.stream = l->stream;
    gpu->base.queue.partials = l->partials;
}

void gpu_switch_stream(struct gpu *gpu, int index)
{
    record_progress(gpu, gpu->stream_index);
    wait_for_stream(gpu, index, gpu->stream_index);
    gpu_select_stream(gpu, index);
}

static void streams_begin(struct device *device)
{
    record_progress(of(device), 0);
    for (int i = 1; i < DEVICE_STREAMS; i++)
        wait_for_stream(of(device), i, 0);
}

static void stream_select(struct device *device, int i)
{
    gpu_select_stream(of(device), i);
}

static void event_record(struct device *device, int i)
{
    struct gpu *gpu = of(device);
    if (!gpu->events[i])
        GPU_CHECK(gpu, cudaEventCreateWithFlags(&gpu->events[i], cudaEventDisableTiming));
    if (gpu->events[i])
        GPU_CHECK(gpu, cudaEventRecord(gpu->events[i], gpu->stream));
}

static void event_wait(struct device *device, int i)
{
    struct gpu *gpu = of(device);
    if (gpu->events[i])
        GPU_CHECK(gpu, cudaStreamWaitEvent(gpu->stream, gpu->events[i], 0));
}

static void streams_end(struct device *device)
{
    gpu_select_stream(of(device), 0);
    for (int i = 1; i < DEVICE_STREAMS; i++) {
        record_progress(of(device), i);
        wait_for_stream(of(device), 0, i);
    }
}

void gpu_fill_streams(struct backend *table)
{
    table->streams_begin = streams_begin;
    table->stream_select = stream_select;
    table->event_record = event_record;
    table->event_wait = event_wait;
    table->streams_end = streams_end;
}

cudaError_t gpu_create_streams(struct gpu *gpu)
{
    int lowest = 0, highest = 0; /* priorities: a smaller number is a higher priority */
    cudaError_t error = cudaDeviceGetStreamPriorityRange(&lowest, &highest);
    for (int i = 0; i < DEVICE_STREAMS && error == cudaSuccess; i++) {
        struct gpu_stream *l = &gpu->streams[i];
        l->workspace_bytes = i == 0 ? GPU_WORKSPACE : GPU_SIDE_STREAM_WORKSPACE;
        error = cudaStreamCreateWithPriority(&l->stream, cudaStreamNonBlocking, i == 0 ? lowest : highest);
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&l->progress, cudaEventDisableTiming);
        if (error == cudaSuccess)
            error = cudaMalloc(&l->workspace, l->workspace_bytes + KERNELS_PARTIAL_BYTES);
        l->partials = (char *)l->workspace + l->workspace_bytes;
    }
    return error;
}

void gpu_destroy_streams(struct gpu *gpu)
{
    for (int i = 0; i < DEVICE_EVENTS; i++)
        if (gpu->events[i])
            cudaEventDestroy(gpu->events[i]);
    for (int i = 0; i < DEVICE_STREAMS; i++) {
        struct gpu_stream *l = &gpu->streams[i];
        if (l->dnn)
            cudnnDestroy(l->dnn);
        cudaFree(l->workspace);
        if (l->progress)
            cudaEventDestroy(l->progress);
        if (l->stream)
            cudaStreamDestroy(l->stream);
    }
}
