/* fake_nccl.c - NCCL over MPI and the memory of fake_cuda.c. A call on a non-blocking communicator is reported as in
 * progress a few times after it has ended. The memory of sums must lie in a registered window: memory from
 * ncclMemAlloc, of the same size on every rank, that is freed after the window is closed. CSC_FAKE_NCCL, see
 * README.md, makes calls fail. */
#include <mpi.h>
#include <nccl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "layers/backend/element.h"
#include "tests/gpu_emulation/fake_cuda.h"

enum {
    QUESTIONS = 3, /* how often a call is in progress before it has ended */
    MAX_WINDOWS = 2
};

struct fake_window {
    char *memory; /* NULL: the window is closed */
    size_t bytes;
};

struct fake_nccl {
    MPI_Comm ranks;
    int asked; /* questions since the last call */
    long sums;
    bool lost, hangs;
    struct fake_window windows[MAX_WINDOWS];
    cudaStream_t hung;
};

static void *allocated[MAX_WINDOWS]; /* by ncclMemAlloc */
static struct fake_nccl *alive;

static bool is_requested(const char *what, long n)
{
    const char *text = getenv("CSC_FAKE_NCCL");
    size_t length = strlen(what);
    return text && strncmp(text, what, length) == 0 &&
           (text[length] == '\0' || strtol(text + length + 1, NULL, 10) == n);
}

static ncclResult_t under_way(ncclComm_t comm)
{
    comm->asked = 0;
    return ncclInProgress;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 7, sizeof *id);
    return ncclSuccess;
}

static void end_mpi(void)
{
    MPI_Finalize();
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    int mpi_ranks, mpi_rank, initialized = 1;
    MPI_Initialized(&initialized);
    if (!initialized) { /* a single process without mpirun */
        MPI_Init(NULL, NULL);
        atexit(end_mpi);
    }
    MPI_Comm_size(MPI_COMM_WORLD, &mpi_ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    if (ranks != mpi_ranks || rank != mpi_rank || config->blocking || id.internal[0] != 7)
        return ncclInvalidArgument;
    *comm = calloc(1, sizeof **comm);
    if (!*comm)
        return ncclInvalidUsage;
    alive = *comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &(*comm)->ranks);
    (*comm)->hangs = is_requested("start", 0);
    return under_way(*comm);
}

ncclResult_t ncclMemAlloc(void **memory, size_t bytes)
{
    for (int i = 0; i < MAX_WINDOWS; i++)
        if (!allocated[i] && cudaMalloc(memory, bytes) == cudaSuccess) {
            allocated[i] = *memory;
            return ncclSuccess;
        }
    return ncclInvalidArgument;
}

static bool in_window(const struct fake_nccl *comm, const void *memory, size_t bytes)
{
    const char *m = memory;
    for (int i = 0; comm && i < MAX_WINDOWS; i++) {
        const struct fake_window *w = &comm->windows[i];
        if (w->memory && m >= w->memory && m + bytes <= w->memory + w->bytes)
            return true;
    }
    return false;
}

ncclResult_t ncclMemFree(void *memory)
{
    for (int i = 0; i < MAX_WINDOWS; i++)
        if (allocated[i] == memory) {
            if (in_window(alive, memory, 1))
                abort();
            allocated[i] = NULL;
            return cudaFree(memory) == cudaSuccess ? ncclSuccess : ncclInvalidArgument;
        }
    abort();
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void *memory, size_t bytes, ncclWindow_t *window, int flags)
{
    struct fake_window *w = comm->windows;
    long long extremes[2] = { (long long)bytes, -(long long)bytes };
    while (w < comm->windows + MAX_WINDOWS && w->memory)
        w++;
    MPI_Allreduce(MPI_IN_PLACE, extremes, 2, MPI_LONG_LONG, MPI_MAX, comm->ranks);
    if (!fake_cuda_owns(memory, bytes) || (memory != allocated[0] && memory != allocated[1]) ||
        flags != NCCL_WIN_COLL_SYMMETRIC || extremes[0] != -extremes[1] || w == comm->windows + MAX_WINDOWS ||
        comm->asked < QUESTIONS)
        return ncclInvalidArgument;
    *w = (struct fake_window){ memory, bytes };
    if (!is_requested("no-window", 0))
        *window = w;
    return under_way(comm);
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window)
{
    if (!window || !window->memory)
        return ncclInvalidArgument;
    window->memory = NULL;
    return under_way(comm);
}

static void sum_bf16(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void)type;
    for (int i = 0; i < *count; i++)
        ((bf16 *)inout)[i] = bf16_from_float(bf16_to_float(((bf16 *)in)[i]) + bf16_to_float(((bf16 *)inout)[i]));
}

static void sum(ncclComm_t comm, void *data, size_t count, ncclDataType_t type)
{
    MPI_Op op = MPI_SUM;
    if (type == ncclBfloat16)
        MPI_Op_create(sum_bf16, 1, &op);
    MPI_Allreduce(MPI_IN_PLACE, data, (int)count, type == ncclFloat32 ? MPI_FLOAT : MPI_UINT16_T, op, comm->ranks);
    if (type == ncclBfloat16)
        MPI_Op_free(&op);
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    size_t bytes = count * (type == ncclFloat32 ? sizeof(float) : sizeof(bf16));
    if (from != to || op != ncclSum || !fake_cuda_owns(to, bytes) || !in_window(comm, to, bytes) ||
        comm->asked < QUESTIONS || fake_graph_captures_any())
        return ncclInvalidArgument; /* also if the caller has not waited for the call before */
    comm->sums++;
    fake_counts.sums++;
    fake_counts.behind_graphs += fake_last_was_graph;
    fake_last_was_graph = false;
    if (is_requested("error", comm->sums) || is_requested("hang", comm->sums)) {
        comm->lost = is_requested("error", comm->sums);
        comm->hung = stream;
        fake_cuda_hang(stream, true);
        return under_way(comm);
    }
    fake_cuda_unlock();
    sum(comm, to, count, type);
    fake_cuda_lock();
    return under_way(comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = comm->hangs || comm->asked++ < QUESTIONS ? ncclInProgress : comm->lost ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    return under_way(comm);
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (comm->hung)
        fake_cuda_hang(comm->hung, false);
    alive = NULL;
    free(comm); /* MPI is left alone: peers may be gone */
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->asked < QUESTIONS)
        return ncclInvalidUsage;
    alive = NULL;
    MPI_Comm_free(&comm->ranks);
    free(comm);
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t error)
{
    return error == ncclRemoteError ? "remote process exited or there was a network error" : "invalid argument";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return comm && comm->lost ? "socket closed by a peer of the fake NCCL" : "";
}
