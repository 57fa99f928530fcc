/* fake_cuda.c - CUDA's run-time without a GPU. Every call takes effect at once, except copies from pinned memory,
 * which are made when somebody waits for them, as late as a GPU might. New memory holds NaN, behind each allocation
 * is a page that cannot be touched, and a copy with a pointer to the wrong side is refused. The environment
 * variables that change its behaviour are listed in README.md. */
#include "tests/gpu_emulation/fake_cuda.h"

#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_ALLOCATIONS = 256 };
#define DEVICE_BYTES ((size_t)4 << 30)  /* or CSC_FAKE_MEMORY megabytes */
#define FILLED_BYTES ((size_t)32 << 20) /* larger allocations are left as the operating system gives them */
#define HUGE_PAGE    ((size_t)2 << 20)

static struct allocation {
    char *memory;
    size_t bytes, pages; /* pages: `bytes` rounded up to pages, without the guard page */
    char *region;        /* the mapping; the allocation lies at its end */
} allocations[MAX_ALLOCATIONS];
static int allocation_count, unlock_count;
static size_t used;

enum { MAX_LOCKED = 64, MAX_PENDING = 8 };
struct fake_stream {
    bool alive, hung;
    struct pending_copy {
        void *to;
        const void *from;
        size_t bytes;
    } pending[MAX_PENDING];
    int pending_count;
};
struct fake_event {
    bool recorded, hung;
    cudaStream_t stream;
    struct fake_position position;
    double ms;
};
static struct {
    char *memory;
    size_t bytes;
} pinned[MAX_LOCKED];
static int current;
static double clock_ms;
struct fake_counts fake_counts;
static const char *counts_path;

static void write_counts(void)
{
    FILE *f = current == 0 ? fopen(counts_path, "w") : NULL; /* only one of several ranks writes */
    if (f) {
        fprintf(f,
                "streams %ld\nevents %ld\nqueued %ld\ngraphs %ld\nsums %ld\nbehind_graphs %ld\nprofiled_graphs %ld\n",
                fake_counts.streams, fake_counts.events, fake_counts.queued, fake_counts.graphs, fake_counts.sums,
                fake_counts.behind_graphs, fake_counts.profiled_graphs);
        fclose(f);
    }
}

static size_t device_bytes(void)
{
    const char *megabytes = getenv("CSC_FAKE_MEMORY");
    return megabytes ? (size_t)atol(megabytes) << 20 : DEVICE_BYTES;
}

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

/* The time to lock and unlock memory grows with the number of pages: all but small allocations use huge pages. */
static size_t region_bytes(size_t pages)
{
    return pages < HUGE_PAGE / 8 ? pages : (pages + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

/* A locked mapping with a guard page behind it; NULL: out of memory. */
static char *new_region(size_t pages)
{
    size_t bytes = region_bytes(pages), mapped_bytes = bytes + HUGE_PAGE + whole_pages(1);
    char *mapped = mmap(NULL, mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)mapped % HUGE_PAGE) % HUGE_PAGE;
    char *region = mapped + before;
    if (before > 0)
        munmap(mapped, before);
    munmap(region + bytes + whole_pages(1), HUGE_PAGE - before);
    if (bytes >= HUGE_PAGE)
        madvise(region, bytes, MADV_HUGEPAGE);
    return region;
}

static void protect_all(int how)
{
    for (int i = 0; i < allocation_count; i++)
        if (mprotect(allocations[i].region, region_bytes(allocations[i].pages), how) != 0)
            abort();
}

void fake_cuda_unlock(void)
{
    if (unlock_count++ == 0)
        protect_all(PROT_READ | PROT_WRITE);
}

void fake_cuda_lock(void)
{
    if (--unlock_count == 0)
        protect_all(PROT_NONE);
}

static struct allocation *find(const void *memory)
{
    for (int i = 0; i < allocation_count; i++)
        if ((const char *)memory >= allocations[i].memory &&
            (const char *)memory < allocations[i].memory + allocations[i].pages)
            return &allocations[i];
    return NULL;
}

bool fake_cuda_owns(const void *memory, size_t bytes)
{
    const struct allocation *a = find(memory);
    return a && (const char *)memory + bytes <= a->memory + a->bytes;
}

void fake_cuda_advance_clock(double ms)
{
    clock_ms += ms;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    size_t pages = whole_pages(bytes);
    if (fake_graph_captures_any())
        return fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    if (used + pages > device_bytes() || allocation_count == MAX_ALLOCATIONS)
        return cudaErrorMemoryAllocation;
    char *region = new_region(pages);
    if (!region)
        return cudaErrorMemoryAllocation;
    char *at = region + region_bytes(pages) - pages;
    used += pages;
    allocations[allocation_count++] = (struct allocation){ at, bytes, pages, region };
    fake_cuda_unlock();
    if (pages <= FILLED_BYTES)
        memset(at, 0xff, pages);
    fake_cuda_lock();
    *memory = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    struct allocation *a = memory ? find(memory) : NULL;
    if (!memory)
        return cudaSuccess;
    if (fake_graph_captures_any())
        return fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    if (!a || a->memory != memory)
        return cudaErrorInvalidValue;
    munmap(a->region, region_bytes(a->pages) + whole_pages(1));
    used -= a->pages;
    *a = allocations[--allocation_count];
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = device_bytes();
    *free_bytes = *total_bytes - used;
    return cudaSuccess;
}

struct filling {
    void *to;
    int value;
    size_t bytes;
};

static void fill(const void *arguments)
{
    const struct filling *f = arguments;
    fake_cuda_unlock();
    memset(f->to, f->value, f->bytes);
    fake_cuda_lock();
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    const struct filling f = { to, value, bytes };
    if (bytes > 0 && !fake_cuda_owns(to, bytes))
        return cudaErrorInvalidValue;
    if (fake_graph_captures_any())
        return fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    fill(&f);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    const struct filling f = { to, value, bytes };
    if (!stream || !stream->alive || (bytes > 0 && !fake_cuda_owns(to, bytes)))
        return cudaErrorInvalidValue;
    return fake_cuda_enqueue(stream, fill, &f, sizeof f);
}

/* CUDA pins whole pages, and refuses to pin one twice. */
static bool shares_page(const void *memory, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)memory / page;
    const uintptr_t last = ((uintptr_t)memory + bytes - 1) / page;
    for (int i = 0; i < MAX_LOCKED; i++) {
        uintptr_t from = (uintptr_t)pinned[i].memory;
        if (from && first <= (from + pinned[i].bytes - 1) / page && last >= from / page)
            return true;
    }
    return false;
}

static bool is_pinned(const void *memory, size_t bytes)
{
    const char *m = memory;
    for (int i = 0; i < MAX_LOCKED; i++)
        if (pinned[i].memory && m >= pinned[i].memory && m + bytes <= pinned[i].memory + pinned[i].bytes)
            return true;
    return false;
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned flags)
{
    if (flags != cudaHostRegisterDefault || find(memory) || bytes == 0 || shares_page(memory, bytes))
        return cudaErrorInvalidValue;
    for (int i = 0; i < MAX_LOCKED; i++)
        if (!pinned[i].memory) {
            pinned[i].memory = memory;
            pinned[i].bytes = bytes;
            return cudaSuccess;
        }
    return cudaErrorMemoryAllocation;
}

cudaError_t cudaHostUnregister(void *memory)
{
    for (int i = 0; i < MAX_LOCKED; i++)
        if (pinned[i].memory == memory) {
            pinned[i].memory = NULL;
            return cudaSuccess;
        }
    return cudaErrorInvalidValue;
}

static void finish_copies(cudaStream_t stream)
{
    fake_cuda_unlock();
    for (int i = 0; i < stream->pending_count; i++)
        memcpy(stream->pending[i].to, stream->pending[i].from, stream->pending[i].bytes);
    stream->pending_count = 0;
    fake_cuda_lock();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    const void *device = kind == cudaMemcpyHostToDevice ? to : from, *host = kind == cudaMemcpyHostToDevice ? from : to;
    if (!stream || !stream->alive || (bytes > 0 && (!fake_cuda_owns(device, bytes) || find(host))))
        return cudaErrorInvalidValue;
    if (fake_graph_captures(stream))
        return fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    if (kind == cudaMemcpyHostToDevice && is_pinned(from, bytes) && stream->pending_count < MAX_PENDING) {
        stream->pending[stream->pending_count++] = (struct pending_copy){ to, from, bytes };
        return cudaSuccess;
    }
    finish_copies(stream);
    fake_cuda_unlock();
    memcpy(to, from, bytes);
    fake_cuda_lock();
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = malloc(sizeof **stream);
    if (!*stream)
        return cudaErrorMemoryAllocation;
    **stream = (struct fake_stream){ .alive = true };
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *lowest, int *highest)
{
    *lowest = 0;
    *highest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    return priority > 0 || priority < -5 ? cudaErrorInvalidValue : cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (!stream || !stream->alive)
        return cudaErrorInvalidValue;
    if (fake_graph_captures(stream))
        return fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    fake_counts.streams++;
    finish_copies(stream);
    return cudaSuccess;
}

cudaError_t fake_cuda_finish_copies(cudaStream_t stream)
{
    if (!stream || !stream->alive)
        return cudaErrorInvalidValue;
    finish_copies(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    if (event->recorded && event->hung)
        return cudaErrorInvalidValue;
    if (event->position.capture || fake_graph_captures(stream))
        return fake_graph_follow(stream, &event->position);
    if (event->recorded)
        finish_copies(event->stream);
    return stream && stream->alive ? cudaSuccess : cudaErrorInvalidValue;
}

void fake_cuda_hang(cudaStream_t stream, bool hung)
{
    stream->hung = hung;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = calloc(1, sizeof **event);
    return *event ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    return flags == cudaEventDisableTiming ? cudaEventCreate(event) : cudaErrorInvalidValue;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (!event->recorded || event->hung)
        return event->recorded ? cudaErrorNotReady : cudaErrorInvalidValue;
    if (event->position.capture)
        return fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    finish_copies(event->stream);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    *event = (struct fake_event){ .recorded = true, .hung = stream && stream->hung, .stream = stream, .ms = clock_ms };
    fake_graph_position(stream, &event->position);
    return stream && stream->alive ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->position.capture)
        return fake_graph_forbid(cudaErrorStreamCaptureUnsupported);
    if (event->recorded)
        finish_copies(event->stream);
    fake_counts.events++;
    return event->recorded ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    *ms = (float)(end->ms - start->ms);
    return start->recorded && end->recorded ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorNoKernelImageForDevice ? "no kernel image is available for execution on the device"
           : error == cudaErrorMemoryAllocation     ? "out of memory"
           : error == cudaErrorInvalidValue         ? "invalid argument"
           : error == cudaErrorNoDevice             ? "no GPU"
           : error >= cudaErrorIllegalState         ? "operation not permitted when stream is capturing"
                                                    : "fine";
}

/* CSC_FAKE_GPUS=own: each process sees one GPU of its own, as some schedulers arrange it. */
static bool sees_one_gpu(void)
{
    const char *gpus = getenv("CSC_FAKE_GPUS");
    return gpus && strcmp(gpus, "own") == 0;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    const char *gpus = getenv("CSC_FAKE_GPUS");
    *count = gpus && !sees_one_gpu() ? atoi(gpus) : 1;
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

static cudaError_t device_exists(int device)
{
    int count;
    cudaError_t error = cudaGetDeviceCount(&count);
    return error != cudaSuccess ? error : device >= 0 && device < count ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = device_exists(device);
    if (!counts_path && getenv("CSC_FAKE_COUNTS")) {
        counts_path = getenv("CSC_FAKE_COUNTS");
        atexit(write_counts);
    }
    current = error == cudaSuccess ? device : current;
    return error;
}

cudaError_t cudaProfilerStart(void)
{
    fake_counts.profiled_graphs -= fake_counts.graphs;
    return cudaSuccess;
}

cudaError_t cudaProfilerStop(void)
{
    fake_counts.profiled_graphs += fake_counts.graphs;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return cudaSuccess;
}

/* CSC_FAKE_SHARED_GPU: all processes see the same GPU. */
cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    unsigned domain = sees_one_gpu() ? (unsigned)getpid() & 0xffff : 0;
    snprintf(id, (size_t)length, "%04x:%02x:00.0", domain, getenv("CSC_FAKE_SHARED_GPU") ? 1 : device + 1);
    return device_exists(device);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : attribute == cudaDevAttrMultiProcessorCount ? 3 : 0;
    return device_exists(device);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    snprintf(properties->name, sizeof properties->name, "Fake GPU/1");
    return device_exists(device);
}

/* CSC_FAKE_CODE=none: the program has no code for the GPU. */
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    const char *code = getenv("CSC_FAKE_CODE");
    attributes->binaryVersion = 90;
    if (code && strcmp(code, "none") == 0)
        return cudaErrorNoKernelImageForDevice;
    return kernel ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}
