/* mpi.c - a communicator over MPI: blocking operations, start and end.
 * MPI is initialised with MPI_THREAD_FUNNELED, so only the thread that created the communicator may use it. MPI's
 * errors are returned as STATUS_LOST. Arrays of more than comm_max_count elements are sent in chunks, because MPI
 * counts in ints. */
#include "comm/mpi_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/launch.h"

enum status report_mpi_error(const char *call, int error, const char *file, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(error, text, &length);
    return status_report(STATUS_LOST, file, line, "%s: %s: a rank, its node or the network was lost", call, text);
}

static enum status mpi_broadcast(struct comm *comm, void *data, size_t bytes, int root)
{
    enum status status = STATUS_OK;
    assert(root >= 0 && root < comm->size);
    for (size_t done = 0; done < bytes; done += comm_max_count) {
        TRY_MPI(MPI_Bcast, (char *)data + done, mpi_chunk(bytes - done), MPI_BYTE, root,
                ((struct mpi_comm *)comm)->world);
    }
fail:
    return status;
}

/* In place and in chunks. MPI chooses the order of additions. */
static enum status reduce(struct comm *comm, void *data, size_t count, size_t bytes, MPI_Datatype type, MPI_Op op)
{
    enum status status = STATUS_OK;
    for (size_t done = 0; done < count; done += comm_max_count) {
        TRY_MPI(MPI_Allreduce, MPI_IN_PLACE, (char *)data + done * bytes, mpi_chunk(count - done), type, op,
                ((struct mpi_comm *)comm)->world);
    }
fail:
    return status;
}

static enum status mpi_all_reduce_f32(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                      bool deterministic)
{
    if (wire == COMM_F32 && !deterministic)
        return reduce(comm, data, count, sizeof *data, MPI_FLOAT, MPI_SUM);
    return comm_start_and_wait_f32(comm, data, count, wire, deterministic);
}

static enum status mpi_all_reduce_max_i64(struct comm *comm, int64_t *data, size_t count)
{
    return reduce(comm, data, count, sizeof *data, MPI_INT64_T, MPI_MAX);
}

static enum status mpi_all_gather(struct comm *comm, const void *data, size_t bytes, void *out)
{
    enum status status = STATUS_OK;
    if (bytes && bytes <= comm_max_count) {
        TRY_MPI(MPI_Allgather, data, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, ((struct mpi_comm *)comm)->world);
    } else if (bytes) {
        memcpy((char *)out + (size_t)comm->rank * bytes, data, bytes);
        for (int rank = 0; rank < comm->size; rank++)
            TRY(mpi_broadcast(comm, (char *)out + (size_t)rank * bytes, bytes, rank));
    }
fail:
    return status;
}

static enum status mpi_barrier(struct comm *comm)
{
    enum status status = STATUS_OK;
    TRY_MPI(MPI_Barrier, ((struct mpi_comm *)comm)->world);
fail:
    return status;
}

/* mpirun ends the other ranks when one ends with an error, so MPI_Abort is not needed. With it, mpirun prints a
 * notice, and Open MPI 4.1's crashed sometimes when several ranks ended at once. */
static void __attribute__((noreturn)) mpi_abort(struct comm *comm, int exit_code)
{
    fflush(NULL);
    if (!((struct mpi_comm *)comm)->under_mpirun)
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    _exit(exit_code);
}

static void mpi_destroy(struct comm *comm)
{
    struct mpi_comm *mpi = (struct mpi_comm *)comm;
    mpi_requests_free(mpi);
    free(mpi->packed);
    free(mpi->received);
    if (mpi->bf16_sum != MPI_OP_NULL)
        MPI_Op_free(&mpi->bf16_sum);
    if (mpi->bf16 != MPI_DATATYPE_NULL)
        MPI_Type_free(&mpi->bf16);
    if (mpi->world != MPI_COMM_NULL)
        MPI_Comm_free(&mpi->world);
    int initialized = 0;
    if (MPI_Initialized(&initialized) == MPI_SUCCESS && initialized)
        MPI_Finalize();
    free(mpi);
}

static const struct comm_ops mpi_ops = {
    .name = "mpi",
    .broadcast = mpi_broadcast,
    .all_reduce_f32 = mpi_all_reduce_f32,
    .all_reduce_f64 = mpi_deterministic_f64,
    .all_reduce_start_f32 = mpi_all_reduce_start_f32,
    .progress = mpi_progress,
    .wait = mpi_wait,
    .all_reduce_max_i64 = mpi_all_reduce_max_i64,
    .all_gather = mpi_all_gather,
    .barrier = mpi_barrier,
    .abort = mpi_abort,
    .destroy = mpi_destroy,
};

/* The MPI_Op: inout = in + inout, rounded. */
static void sum_bf16(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void)type;
    mpi_add_bf16(inout, in, inout, (size_t)*count);
}

/* Shortens the long text that the library gives to "Open MPI v4.1.4". */
static void library_name(char name[64])
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "MPI";
    int length = 0;
    MPI_Get_library_version(text, &length);
    snprintf(name, 64, "%.*s", (int)strcspn(text, ",\n"), text);
}

static enum status start_mpi(struct mpi_comm *mpi)
{
    enum status status = STATUS_OK;
    int provided;
    struct launch launch = launch_read(); /* before MPI sets variables of its own */
    mpi->under_mpirun = launch.launcher && strcmp(launch.launcher, "mpirun") == 0;
    TRY_MPI(MPI_Init_thread, NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    library_name(mpi->base.library);
    TRY_MPI(MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    TRY_MPI(MPI_Comm_size, MPI_COMM_WORLD, &mpi->base.size);
    TRY(launch_check(&launch, mpi->base.size, mpi->base.library));
    if (provided < MPI_THREAD_FUNNELED)
        FAIL(STATUS_USAGE, "%s does not support threads (MPI_THREAD_FUNNELED): use an MPI that does",
             mpi->base.library);
fail:
    return status;
}

static enum status read_ranks(struct mpi_comm *mpi)
{
    enum status status = STATUS_OK;
    MPI_Comm host = MPI_COMM_NULL;
    TRY_MPI(MPI_Comm_rank, mpi->world, &mpi->base.rank);
    TRY_MPI(MPI_Comm_split_type, mpi->world, MPI_COMM_TYPE_SHARED, mpi->base.rank, MPI_INFO_NULL, &host);
    TRY_MPI(MPI_Comm_rank, host, &mpi->base.local_rank);
    TRY_MPI(MPI_Comm_size, host, &mpi->base.local_size);
fail:
    if (host != MPI_COMM_NULL)
        MPI_Comm_free(&host);
    return status;
}

enum status comm_mpi_create(struct comm **out)
{
    enum status status = STATUS_OK;
    struct mpi_comm *mpi = calloc(1, sizeof *mpi);
    if (!mpi)
        FAIL(STATUS_NOMEM, "out of memory");
    mpi->base.ops = &mpi_ops;
    mpi->world = MPI_COMM_NULL;
    mpi->bf16 = MPI_DATATYPE_NULL;
    mpi->bf16_sum = MPI_OP_NULL;
    TRY(start_mpi(mpi));
    if (mpi->base.size == 1) { /* the launcher did not say how many ranks it started */
        mpi_destroy(&mpi->base);
        return comm_self_create(out);
    }
    TRY_MPI(MPI_Comm_dup, MPI_COMM_WORLD, &mpi->world);
    TRY_MPI(MPI_Comm_set_errhandler, mpi->world, MPI_ERRORS_RETURN);
    TRY_MPI(MPI_Type_contiguous, 2, MPI_BYTE, &mpi->bf16);
    TRY_MPI(MPI_Type_commit, &mpi->bf16);
    TRY_MPI(MPI_Op_create, sum_bf16, 1, &mpi->bf16_sum);
    TRY(read_ranks(mpi));
    mpi->packed = malloc(SEGMENT_ELEMENTS * sizeof(double));
    mpi->received = malloc(SEGMENT_ELEMENTS * sizeof(double));
    if (!mpi->packed || !mpi->received)
        FAIL(STATUS_NOMEM, "out of memory for deterministic sums");
    *out = &mpi->base;
    return STATUS_OK;
fail:
    if (mpi)
        mpi_destroy(&mpi->base);
    return status;
}
