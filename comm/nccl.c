/* nccl.c - NCCL without blocking calls. Whatever another rank does, this rank checks NCCL's asynchronous error and the
 * clock, and fails with one line. A communicator that failed is aborted, which also ends its kernels on the GPU. */
#include "comm/nccl.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "comm/comm_internal.h"
#include "comm/nccl_cast.h"

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 27, 0)
#error "NCCL 2.27 or later is needed: it registers windows of memory"
#endif

enum { BUS_ID = 32 };
#define SPIN_S 0.05

struct comm_request {
    struct comm_request *next;
    bool busy;
    cudaEvent_t done;
};

struct nccl_comm {
    struct comm base;
    struct comm *host_comm;
    cudaStream_t compute_stream, comm_stream;
    cudaEvent_t ready;
    ncclComm_t nccl;
    float *memory; /* the caller's: `count` values */
    size_t count;
    uint16_t *packed;        /* bf16 copies of them, or NULL */
    ncclWindow_t windows[2]; /* of memory and packed; NULL where this machine supports none */
    double timeout_s;
    struct comm_request *requests; /* a list; the first idle one is used, so that every step uses the same ones */
};

static struct nccl_comm *nccl_of(struct comm *comm)
{
    return (struct nccl_comm *)comm;
}

static enum status report_lost(const char *call, const char *why, const char *file, int line)
{
    return status_report(STATUS_LOST, file, line, "%s: %s: a rank, its GPU or the network was lost", call, why);
}

#define TRY_CUDA(call)                                                                   \
    do {                                                                                 \
        cudaError_t error_ = (call);                                                     \
        if (error_ != cudaSuccess) {                                                     \
            status = report_lost(#call, cudaGetErrorString(error_), __FILE__, __LINE__); \
            goto fail;                                                                   \
        }                                                                                \
    } while (0)

/* Calls of a non-blocking communicator may return before they are done. */
#define TRY_NCCL(comm, call)                                                           \
    do {                                                                               \
        ncclResult_t error_ = (call);                                                  \
        if (error_ == ncclInProgress)                                                  \
            error_ = wait_until_done(comm);                                            \
        if (error_ != ncclSuccess) {                                                   \
            status = report_lost(#call, error_text(comm, error_), __FILE__, __LINE__); \
            goto fail;                                                                 \
        }                                                                              \
    } while (0)

/* Called between two checks. A sum takes microseconds to milliseconds, and sleeping, however short, would lengthen it
 * by up to a tenth, so at first this only yields the core. The loader leaves one to this thread. A sum that takes
 * longer probably hangs. */
static void pause_since(double began)
{
    const struct timespec nap = { .tv_nsec = 20000 };
    if (clock_seconds() - began < SPIN_S)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

static const char *error_text(const struct nccl_comm *c, ncclResult_t error)
{
    const char *detail = ncclGetLastError(c->nccl);
    if (error == ncclInProgress)
        return "no answer within comm.timeout_s";
    return detail && *detail ? detail : ncclGetErrorString(error);
}

/* Waits until the communicator has done what it was asked; returns ncclInProgress after the timeout. */
static ncclResult_t wait_until_done(const struct nccl_comm *c)
{
    ncclResult_t state = ncclInProgress;
    double began = clock_seconds();
    while (clock_seconds() < began + c->timeout_s) {
        ncclResult_t asked = ncclCommGetAsyncError(c->nccl, &state);
        if (asked != ncclSuccess)
            return asked;
        if (state != ncclInProgress)
            return state;
        pause_since(began);
    }
    return ncclInProgress;
}

/* ---- sums ---- */

static enum status idle_request(struct nccl_comm *c, struct comm_request **request)
{
    enum status status = STATUS_OK;
    struct comm_request **r = &c->requests;
    while (*r && (*r)->busy)
        r = &(*r)->next;
    if (!*r && !(*r = calloc(1, sizeof **r)))
        FAIL(STATUS_NOMEM, "out of memory for a sum in progress");
    if (!(*r)->done)
        TRY_CUDA(cudaEventCreateWithFlags(&(*r)->done, cudaEventDisableTiming));
    *request = *r;
fail:
    return status;
}

static enum status nccl_all_reduce_start_f32(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                             bool deterministic, struct comm_request **request)
{
    enum status status = STATUS_OK;
    struct nccl_comm *c = nccl_of(comm);
    struct comm_request *r = NULL;
    if (deterministic)
        FAIL(STATUS_USAGE, "run.deterministic: NCCL adds in no fixed order; use one GPU, or the CPU");
    if (data < c->memory || data + count > c->memory + c->count || (wire == COMM_BF16 && !c->packed))
        FAIL(STATUS_BUG, "a sum of %zu values outside of the registered memory", count);
    TRY(idle_request(c, &r));
    TRY_CUDA(cudaEventRecord(c->ready, c->compute_stream));
    TRY_CUDA(cudaStreamWaitEvent(c->comm_stream, c->ready, 0));
    if (wire == COMM_BF16) {
        uint16_t *packed = c->packed + (data - c->memory);
        TRY_CUDA(nccl_f32_to_bf16(data, packed, count, c->comm_stream));
        TRY_NCCL(c, ncclAllReduce(packed, packed, count, ncclBfloat16, ncclSum, c->nccl, c->comm_stream));
        TRY_CUDA(nccl_bf16_to_f32(packed, data, count, c->comm_stream));
    } else {
        TRY_NCCL(c, ncclAllReduce(data, data, count, ncclFloat32, ncclSum, c->nccl, c->comm_stream));
    }
    TRY_CUDA(cudaEventRecord(r->done, c->comm_stream));
    r->busy = true;
    *request = r;
fail:
    return status;
}

static enum status nccl_progress(struct comm *comm)
{
    enum status status = STATUS_OK;
    struct nccl_comm *c = nccl_of(comm);
    ncclResult_t state = ncclSuccess;
    TRY_NCCL(c, ncclCommGetAsyncError(c->nccl, &state));
    if (state != ncclSuccess && state != ncclInProgress)
        TRY_NCCL(c, state);
fail:
    return status;
}

/* Waits on the host, so that a lost rank is noticed here and not in a later copy, which would never end. */
static enum status nccl_wait(struct comm *comm, struct comm_request *request)
{
    enum status status = STATUS_OK;
    struct nccl_comm *c = nccl_of(comm);
    double began = clock_seconds();
    cudaError_t state;
    while ((state = cudaEventQuery(request->done)) == cudaErrorNotReady) {
        TRY(nccl_progress(comm));
        if (clock_seconds() > began + c->timeout_s)
            FAIL(STATUS_LOST, "rank %d waited %g s for a sum over the ranks' GPUs: a rank hangs or was lost",
                 comm->rank, c->timeout_s);
        pause_since(began);
    }
    TRY_CUDA(state);
    TRY_CUDA(cudaStreamWaitEvent(c->compute_stream, request->done, 0));
    request->busy = false;
fail:
    if (status != STATUS_OK && c->nccl) { /* also ends the kernels that wait on the GPU */
        ncclCommAbort(c->nccl);
        c->nccl = NULL;
    }
    return status;
}

static void nccl_destroy(struct comm *comm)
{
    struct nccl_comm *c = nccl_of(comm);
    for (int i = 0; i < 2; i++)
        if (c->nccl && c->windows[i] && ncclCommWindowDeregister(c->nccl, c->windows[i]) == ncclInProgress)
            wait_until_done(c);
    if (c->nccl && ncclCommFinalize(c->nccl) == ncclInProgress)
        wait_until_done(c);
    if (c->nccl)
        ncclCommDestroy(c->nccl);
    for (struct comm_request *r = c->requests, *next; r; r = next) {
        next = r->next;
        if (r->done)
            cudaEventDestroy(r->done);
        free(r);
    }
    if (c->ready)
        cudaEventDestroy(c->ready);
    if (c->comm_stream)
        cudaStreamDestroy(c->comm_stream);
    comm_nccl_free(c->packed);
    free(c);
}

static const struct comm_ops nccl_ops = {
    .name = "nccl",
    .all_reduce_f32 = comm_start_and_wait_f32,
    .all_reduce_start_f32 = nccl_all_reduce_start_f32,
    .progress = nccl_progress,
    .wait = nccl_wait,
    .destroy = nccl_destroy,
};

/* ---- start ---- */

struct gpu_location {
    int64_t host; /* the lowest rank of the host, which stands for the host */
    char bus[BUS_ID];
};

/* NCCL would notice this too, but would not say which ranks or what to do. */
enum status comm_nccl_check(struct comm *host_comm)
{
    enum status status = STATUS_OK;
    struct gpu_location own = { .host = host_comm->rank - host_comm->local_rank };
    struct gpu_location *all = calloc(host_comm->size, sizeof *all);
    int device = 0;
    if (!all)
        FAIL(STATUS_NOMEM, "out of memory for %d ranks' GPUs", host_comm->size);
    TRY_CUDA(cudaGetDevice(&device));
    TRY_CUDA(cudaDeviceGetPCIBusId(own.bus, BUS_ID, device));
    TRY(host_comm->ops->all_gather(host_comm, &own, sizeof own, all));
    for (int a = 0; a < host_comm->size; a++)
        for (int b = a + 1; b < host_comm->size; b++)
            if (all[a].host == all[b].host && strncmp(all[a].bus, all[b].bus, BUS_ID) == 0)
                FAIL(STATUS_USAGE, "ranks %d and %d share GPU %.*s: start as many ranks on a host as it has GPUs", a, b,
                     BUS_ID, all[a].bus);
fail:
    free(all);
    return status;
}

static enum status connect_ranks(struct nccl_comm *c)
{
    enum status status = STATUS_OK;
    struct {
        ncclUniqueId id;
        ncclResult_t error;
    } first = { .error = ncclSuccess };
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (c->base.rank == 0)
        first.error = ncclGetUniqueId(&first.id);
    TRY(c->host_comm->ops->broadcast(c->host_comm, &first, sizeof first, 0));
    if (first.error != ncclSuccess)
        FAIL(STATUS_LOST, "ncclGetUniqueId on rank 0: %s", ncclGetErrorString(first.error));
    TRY_NCCL(c, ncclCommInitRankConfig(&c->nccl, c->base.size, first.id, c->base.rank, &config));
fail:
    return status;
}

enum status comm_nccl_allocate(void **memory, size_t bytes)
{
    ncclResult_t error = ncclMemAlloc(memory, bytes);
    if (error == ncclSuccess)
        return STATUS_OK;
    *memory = NULL;
    return status_report(STATUS_NOMEM, __FILE__, __LINE__, "%.1f MB of GPU memory for gradients: ncclMemAlloc: %s",
                         (double)bytes / 1e6, ncclGetErrorString(error));
}

void comm_nccl_free(void *memory)
{
    if (memory)
        ncclMemFree(memory);
}

/* Registers the memory as symmetric windows: the kernels of NCCL then read and add directly in the memory of other
 * GPUs. */
static enum status open_windows(struct nccl_comm *c, enum comm_dtype wire)
{
    enum status status = STATUS_OK;
    TRY_NCCL(c, ncclCommWindowRegister(c->nccl, c->memory, c->count * sizeof *c->memory, &c->windows[0],
                                       NCCL_WIN_COLL_SYMMETRIC));
    if (wire == COMM_BF16) {
        TRY(comm_nccl_allocate((void **)&c->packed, c->count * sizeof *c->packed));
        TRY_NCCL(c, ncclCommWindowRegister(c->nccl, c->packed, c->count * sizeof *c->packed, &c->windows[1],
                                           NCCL_WIN_COLL_SYMMETRIC));
    }
fail:
    return status;
}

enum status comm_nccl_create(struct comm **comm, struct comm *host_comm, void *stream, float *memory, size_t count,
                             enum comm_dtype wire, double timeout_s)
{
    enum status status = STATUS_OK;
    int lowest, highest; /* stream priorities */
    struct nccl_comm *c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory");
    c->base = *host_comm;
    c->base.ops = &nccl_ops;
    c->host_comm = host_comm;
    c->compute_stream = stream;
    c->memory = memory;
    c->count = count;
    c->timeout_s = timeout_s;
    TRY_CUDA(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
    TRY_CUDA(cudaStreamCreateWithPriority(&c->comm_stream, cudaStreamNonBlocking,
                                          highest)); /* a sum need not wait for a convolution to end */
    TRY_CUDA(cudaEventCreateWithFlags(&c->ready, cudaEventDisableTiming));
    TRY(connect_ranks(c));
    TRY(open_windows(c, wire));
    *comm = &c->base;
    c = NULL;
fail:
    if (c && c->nccl) {
        ncclCommAbort(c->nccl);
        c->nccl = NULL;
    }
    if (c)
        nccl_destroy(&c->base);
    return status;
}
