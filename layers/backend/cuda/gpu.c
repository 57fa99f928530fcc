/* gpu.c - opens and closes the CUDA device; memory and copies. Kernels run on one stream (or several: streams.c);
 * batches are prefetched on another. The host waits only for copies from the device, and for a prefetched batch to
 * arrive before its host memory is reused. While a graph is captured (graph.c) neither is allowed. */
#include "layers/backend/cuda/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "layers/backend/cuda/cuda.h"
#include "layers/backend/cuda/nvrtc.h"

enum { MIN_CAPABILITY = 8 };

static struct gpu *of(struct device *device)
{
    return (struct gpu *)device;
}

void gpu_check(struct gpu *gpu, cudaError_t error, const char *file, int line)
{
    if (error == cudaSuccess || gpu->failure.code != STATUS_OK)
        return;
    if (gpu->capturing) { /* the caller will run the work without a graph */
        gpu_fail_capture(gpu, cudaGetErrorString(error));
        return;
    }
    status_report(STATUS_LOST, file, line, "the GPU failed: %s", cudaGetErrorString(error));
    status_save(&gpu->failure);
}

/* ---- memory ---- */

static enum status gpu_arena_allocate(struct device *device, struct arena *arena)
{
    enum status status = STATUS_OK;
    size_t free_bytes = 0, total_bytes = 0;
    cudaError_t error = cudaMalloc((void **)&arena->memory, arena->used ? arena->used : 1);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        cudaMemGetInfo(&free_bytes, &total_bytes);
        FAIL(STATUS_NOMEM,
             "this needs %.1f GB of GPU memory, but only %.1f of %.1f GB are free: "
             "lower train.micro_batch (csc-eval: --batch)",
             1e-9 * arena->used, 1e-9 * free_bytes, 1e-9 * total_bytes);
    }
    if (error == cudaSuccess)
        error = cudaMemsetAsync(arena->memory, 0, arena->used, of(device)->stream);
    if (error != cudaSuccess)
        FAIL(STATUS_LOST, "the GPU failed: %s", cudaGetErrorString(error));
    arena->size = arena->used;
    arena->used = 0;
    return STATUS_OK;
fail:
    arena->memory = NULL;
    return status;
}

static void gpu_arena_finish(struct device *device, struct arena *arena)
{
    if (arena->memory)
        GPU_CHECK(of(device), cudaFree(arena->memory));
    *arena = (struct arena){ 0 };
}

static void copy_in(struct device *device, void *to, const void *from, size_t bytes)
{
    cuda_queue(device);
    if (of(device)->capturing) { /* at launch the host memory may hold something else */
        gpu_fail_capture(of(device), "a copy from the host");
        return;
    }
    GPU_CHECK(of(device), cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, of(device)->stream));
}

static void copy_out(struct device *device, void *to, const void *from, size_t bytes)
{
    if (of(device)->capturing) {
        gpu_fail_capture(of(device), "a copy to the host");
        memset(to, 0xff, bytes);
        return;
    }
    GPU_CHECK(of(device), cudaGetLastError()); /* errors of earlier launches */
    GPU_CHECK(of(device), cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, of(device)->stream));
    GPU_CHECK(of(device), cudaStreamSynchronize(of(device)->stream));
    if (of(device)->failure.code != STATUS_OK)
        memset(to, 0xff, bytes); /* NaN, which cannot be mistaken for a result */
}

static void zero(struct device *device, void *data, size_t bytes)
{
    cuda_queue(device);
    GPU_CHECK(of(device), cudaMemsetAsync(data, 0, bytes, of(device)->stream));
}

void *cuda_staging_buffer(struct cuda_device *device, size_t bytes)
{
    struct gpu *gpu = (struct gpu *)device;
    if (bytes <= device->staging_bytes)
        return device->staging;
    GPU_CHECK(gpu, cudaFree(device->staging)); /* waits for its users */
    device->staging = NULL;
    device->staging_bytes = 0;
    cudaError_t error = cudaMalloc(&device->staging, bytes);
    GPU_CHECK(gpu, error);
    device->staging_bytes = error == cudaSuccess ? bytes : 0;
    return device->staging;
}

static enum status register_host_memory(struct device *device, void *memory, size_t bytes)
{
    enum status status = STATUS_OK;
    cudaError_t error = cudaHostRegister(memory, bytes, cudaHostRegisterDefault);
    (void)device;
    if (error != cudaSuccess) {
        cudaGetLastError();
        FAIL(STATUS_NOMEM, "%.1f MB of host memory cannot be locked for the GPU: %s", 1e-6 * bytes,
             cudaGetErrorString(error));
    }
fail:
    return status;
}

static void unregister_host_memory(struct device *device, void *memory)
{
    struct gpu *gpu = of(device);
    GPU_CHECK(gpu, cudaStreamSynchronize(gpu->copy_stream));
    if (cudaHostUnregister(memory) != cudaSuccess) /* it was not registered */
        cudaGetLastError();
}

static void prefetch_to_device(struct device *device, const void *from, size_t bytes)
{
    struct gpu *gpu = of(device);
    struct prefetch *prefetch = &gpu->prefetch;
    prefetch->from = NULL;
    if (bytes > prefetch->capacity) {
        GPU_CHECK(gpu, cudaFree(prefetch->memory)); /* waits for its users */
        prefetch->memory = NULL;
        prefetch->capacity = 0;
        cudaError_t error = cudaMalloc(&prefetch->memory, bytes);
        GPU_CHECK(gpu, error);
        if (error != cudaSuccess)
            return;
        prefetch->capacity = bytes;
        GPU_CHECK(gpu, cudaEventRecord(prefetch->consumed, gpu->stream));
    }
    GPU_CHECK(gpu, cudaStreamWaitEvent(gpu->copy_stream, prefetch->consumed, 0));
    GPU_CHECK(gpu, cudaMemcpyAsync(prefetch->memory, from, bytes, cudaMemcpyHostToDevice, gpu->copy_stream));
    GPU_CHECK(gpu, cudaEventRecord(prefetch->arrived, gpu->copy_stream));
    prefetch->from = from;
    prefetch->bytes = bytes;
}

const void *cuda_prefetched(struct cuda_device *device, const void *from, size_t bytes)
{
    struct gpu *gpu = (struct gpu *)device;
    struct prefetch *prefetch = &gpu->prefetch;
    if (prefetch->from != from || prefetch->bytes != bytes)
        return NULL;
    prefetch->from = NULL;
    GPU_CHECK(gpu, cudaStreamWaitEvent(gpu->stream, prefetch->arrived, 0));
    GPU_CHECK(gpu, cudaEventSynchronize(prefetch->arrived));
    return prefetch->memory;
}

void cuda_prefetched_done(struct cuda_device *device)
{
    struct gpu *gpu = (struct gpu *)device;
    GPU_CHECK(gpu, cudaEventRecord(gpu->prefetch.consumed, gpu->stream));
}

/* ---- device ---- */

static void *stream(struct device *device)
{
    return of(device)->stream;
}

static void synchronize(struct device *device)
{
    GPU_CHECK(of(device), cudaStreamSynchronize(of(device)->stream));
}

static void close_device(struct device *device)
{
    struct gpu *gpu = of(device);
    gpu_finish_plans(gpu);
    gpu_destroy_streams(gpu);
    for (int i = 0; i < GPU_BUILD_THREADS; i++)
        if (gpu->build_handles[i])
            cudnnDestroy(gpu->build_handles[i]);
    for (int i = 0; i < GPU_LINEAR_SHAPES; i++)
        gpu_destroy_linear_plans(&gpu->linear[i]);
    if (gpu->gemm)
        cublasLtDestroy(gpu->gemm);
    cudaFree(gpu->base.result);
    cudaFree(gpu->base.staging);
    cudaFree(gpu->prefetch.memory);
    if (gpu->prefetch.arrived)
        cudaEventDestroy(gpu->prefetch.arrived);
    if (gpu->prefetch.consumed)
        cudaEventDestroy(gpu->prefetch.consumed);
    if (gpu->copy_stream)
        cudaStreamDestroy(gpu->copy_stream);
    free(gpu);
}

/* "13.0" of 13000 */
static void version_text(int version, char text[16])
{
    snprintf(text, 16, "%d.%d", version / 1000, version % 1000 / 10);
}

/* A build has code for some architectures only; without this check a missing one would show at the first launch. A
 * GPU that cannot be used at all passes: opening it reports why. */
static enum status check_code(int index, int architecture)
{
    enum status status = STATUS_OK;
    struct cudaDeviceProp properties = { .name = "" };
    if (cudaSetDevice(index) != cudaSuccess || cudaFree(NULL) != cudaSuccess) {
        cudaGetLastError();
        return STATUS_OK;
    }
    cudaError_t error = (cudaError_t)kernels_check_code();
    if (error == cudaSuccess)
        return STATUS_OK;
    cudaGetLastError();
    cudaGetDeviceProperties(&properties, index);
    FAIL(STATUS_USAGE, "this build has no code for GPU %d, %s (%s): build it with -Dgpu_architectures=%d", index,
         properties.name, cudaGetErrorString(error), architecture);
fail:
    return status;
}

/* *index: the rank's GPU among those that this process sees. */
static enum status find_gpu(int rank, int *index)
{
    enum status status = STATUS_OK;
    int count = 0, major = 0, minor = 0, driver = 0, runtime = 0;
    char has[16], needs[16];
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0 &&
        cudaRuntimeGetVersion(&runtime) == cudaSuccess) {
        version_text(driver, has);
        version_text(runtime, needs);
        FAIL(STATUS_USAGE, "the driver supports CUDA %s, but this build needs %s: update the driver", has, needs);
    }
    if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice || count == 0)
        FAIL(STATUS_USAGE, "this machine has no GPU with a CUDA driver");
    if (error != cudaSuccess)
        FAIL(STATUS_USAGE, "the GPU cannot be used: %s", cudaGetErrorString(error));
    *index = rank % count;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, *index) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, *index) != cudaSuccess ||
        major < MIN_CAPABILITY)
        FAIL(STATUS_USAGE, "GPU %d has compute capability %d.%d, but at least %d.0 is needed", *index, major, minor,
             MIN_CAPABILITY);
    TRY(check_code(*index, 10 * major + minor));
fail:
    return status;
}

enum status cuda_check(int rank)
{
    int index;
    return find_gpu(rank, &index);
}

static size_t free_memory(struct device *device)
{
    size_t free_bytes = 0, total_bytes = 0;
    (void)device;
    return cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess ? free_bytes : 0;
}

static int multiprocessors(int index)
{
    int count = 0;
    return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index) == cudaSuccess && count > 0 ? count
                                                                                                             : 1;
}

static void warn_without_nvrtc(struct gpu *gpu)
{
    char name[32];
    gpu->warned_unfused = !nvrtc_found(name);
    if (gpu->warned_unfused)
        log_warn_rank0(
            "cuDNN does not find %s, which is a part of CUDA: training is slower without it, because nothing "
            "can be fused with convolutions; "
            "add its folder to LD_LIBRARY_PATH",
            name);
}

static enum status create_streams_and_handles(struct gpu *gpu, int index)
{
    enum status status = STATUS_OK;
    cudaError_t error = cudaSetDevice(index);
    gpu->index = index;
    if (error == cudaSuccess)
        error = gpu_create_streams(gpu);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&gpu->copy_stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&gpu->prefetch.arrived, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&gpu->prefetch.consumed, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaMalloc((void **)&gpu->base.result, CUDA_RESULT_COUNT * sizeof *gpu->base.result);
    if (error != cudaSuccess)
        FAIL(error == cudaErrorMemoryAllocation ? STATUS_NOMEM : STATUS_USAGE, "GPU %d cannot be used: %s", index,
             cudaGetErrorString(error));
    cudnnStatus_t dnn = CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < DEVICE_STREAMS && dnn == CUDNN_STATUS_SUCCESS; i++) {
        dnn = cudnnCreate(&gpu->streams[i].dnn);
        if (dnn == CUDNN_STATUS_SUCCESS)
            dnn = cudnnSetStream(gpu->streams[i].dnn, gpu->streams[i].stream);
    }
    if (dnn != CUDNN_STATUS_SUCCESS)
        FAIL(STATUS_USAGE, "cuDNN cannot be used: %s", cudnnGetErrorString(dnn));
    cublasStatus_t gemm = cublasLtCreate(&gpu->gemm);
    if (gemm != CUBLAS_STATUS_SUCCESS)
        FAIL(STATUS_USAGE, "cuBLASLt cannot be used: %s", cublasLtGetStatusString(gemm));
    gpu_select_stream(gpu, 0);
    warn_without_nvrtc(gpu);
fail:
    return status;
}

enum status cuda_open(struct device **device, int rank, enum precision precision, int threads)
{
    enum status status = STATUS_OK;
    struct gpu *gpu = NULL;
    int index;
    TRY(find_gpu(rank, &index));
    gpu = calloc(1, sizeof *gpu);
    if (!gpu)
        FAIL(STATUS_NOMEM, "out of memory");
    TRY(create_streams_and_handles(gpu, index));
    struct backend *table = &gpu->base.table;
    *table = (struct backend){ .name = "cuda",
                               .arena_allocate = gpu_arena_allocate,
                               .arena_finish = gpu_arena_finish,
                               .free_memory = free_memory,
                               .copy_in = copy_in,
                               .copy_out = copy_out,
                               .zero = zero,
                               .close = close_device,
                               .stream = stream,
                               .synchronize = synchronize,
                               .register_host_memory = register_host_memory,
                               .unregister_host_memory = unregister_host_memory,
                               .prefetch_to_device = prefetch_to_device };
    cuda_fill_table(table);
    gpu_fill_conv(table);
    gpu_fill_linear(table);
    gpu_fill_graph(table);
    gpu_fill_profile(table);
    gpu_fill_streams(table);
    gpu->base.base = (struct device){ .ops = table, .precision = precision, .threads = threads };
    TRY(gpu_init_plans(gpu, index));
    snprintf(gpu->base.base.library, sizeof gpu->base.base.library, "cuDNN %zu", cudnnGetVersion());
    gpu->base.queue.type = precision == PRECISION_BF16 ? BF16 : F32;
    gpu->base.queue.multiprocessors = multiprocessors(index);
    *device = &gpu->base.base;
    gpu = NULL;
fail:
    if (gpu)
        close_device(&gpu->base.base);
    return status;
}
