/* streams.c - lanes of work side by side: streams that come after the first one, which is the device's own, at a fork,
 * and before it at a join. Events order them, and so take the other streams into a capture of the first and back. Each
 * lane has a handle of cuDNN, a workspace and memory for partial sums of its own. */
#include "layers/backend/cuda/gpu.h"

static struct gpu *of(struct device *device)
{
    return (struct gpu *)device;
}

static void mark(struct gpu *gpu, int lane)
{
    GPU_CHECK(gpu, cudaEventRecord(gpu->lanes[lane].reached, gpu->lanes[lane].stream));
}

/* What will be queued in a lane comes after what had been queued in `other` when that was marked. */
static void come_after(struct gpu *gpu, int lane, int other)
{
    GPU_CHECK(gpu, cudaStreamWaitEvent(gpu->lanes[lane].stream, gpu->lanes[other].reached, 0));
}

void gpu_use_lane(struct gpu *gpu, int lane)
{
    const struct gpu_lane *l = &gpu->lanes[lane];
    cuda_queue(&gpu->base.base); /* sums lie in the memory of the lane before */
    gpu->lane = lane;
    gpu->stream = l->stream;
    gpu->dnn = l->dnn;
    gpu->workspace = l->workspace;
    gpu->base.queue.stream = l->stream;
    gpu->base.queue.partials = l->partials;
}

void gpu_move_to_lane(struct gpu *gpu, int lane)
{
    mark(gpu, gpu->lane);
    come_after(gpu, lane, gpu->lane);
    gpu_use_lane(gpu, lane);
}

static void fork_lanes(struct device *device)
{
    mark(of(device), 0);
    for (int i = 1; i < DEVICE_LANES; i++)
        come_after(of(device), i, 0);
}

static void lane(struct device *device, int i)
{
    gpu_use_lane(of(device), i);
}

static void set_mark(struct device *device, int i)
{
    struct gpu *gpu = of(device);
    if (!gpu->marks[i])
        GPU_CHECK(gpu, cudaEventCreateWithFlags(&gpu->marks[i], cudaEventDisableTiming));
    if (gpu->marks[i])
        GPU_CHECK(gpu, cudaEventRecord(gpu->marks[i], gpu->stream));
}

static void await_mark(struct device *device, int i)
{
    struct gpu *gpu = of(device);
    if (gpu->marks[i])
        GPU_CHECK(gpu, cudaStreamWaitEvent(gpu->stream, gpu->marks[i], 0));
}

static void join_lanes(struct device *device)
{
    gpu_use_lane(of(device), 0);
    for (int i = 1; i < DEVICE_LANES; i++) {
        mark(of(device), i);
        come_after(of(device), 0, i);
    }
}

void gpu_fill_lanes(struct backend *table)
{
    table->fork = fork_lanes;
    table->lane = lane;
    table->mark = set_mark;
    table->await = await_mark;
    table->join = join_lanes;
}

cudaError_t gpu_allocate_lanes(struct gpu *gpu)
{
    int least = 0, most = 0; /* priorities: the smaller number is the higher one */
    cudaError_t error = cudaDeviceGetStreamPriorityRange(&least, &most);
    for (int i = 0; i < DEVICE_LANES && error == cudaSuccess; i++) {
        struct gpu_lane *l = &gpu->lanes[i];
        l->workspace_bytes = i == 0 ? GPU_WORKSPACE : LANE_WORKSPACE;
        error = cudaStreamCreateWithPriority(&l->stream, cudaStreamNonBlocking, i == 0 ? least : most);
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&l->reached, cudaEventDisableTiming);
        if (error == cudaSuccess)
            error = cudaMalloc(&l->workspace, l->workspace_bytes + KERNELS_PARTIAL_BYTES);
        l->partials = (char *)l->workspace + l->workspace_bytes;
    }
    return error;
}

void gpu_finish_lanes(struct gpu *gpu)
{
    for (int i = 0; i < DEVICE_MARKS; i++)
        if (gpu->marks[i])
            cudaEventDestroy(gpu->marks[i]);
    for (int i = 0; i < DEVICE_LANES; i++) {
        struct gpu_lane *l = &gpu->lanes[i];
        if (l->dnn)
            cudnnDestroy(l->dnn);
        cudaFree(l->workspace);
        if (l->reached)
            cudaEventDestroy(l->reached);
        if (l->stream)
            cudaStreamDestroy(l->stream);
    }
}
