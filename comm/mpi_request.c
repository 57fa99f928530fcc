/* mpi_request.c - sums in progress, one MPI_Iallreduce per chunk.
 * bf16 sums are sent from a packed copy that belongs to the request. Deterministic sums are computed when they are
 * waited for, which every rank does in the same order. */
#include <stdlib.h>

#include "base/bf16.h"
#include "comm/mpi_internal.h"

struct comm_request {
    bool busy, deterministic;
    enum comm_dtype wire;
    float *data;
    size_t count;
    uint16_t *packed; /* count values, bf16 only */
    size_t packed_capacity;
    MPI_Request *chunks; /* one per chunk */
    int chunk_count, chunk_capacity;
};

static enum status new_request(struct mpi_comm *mpi, struct comm_request **request)
{
    enum status status = STATUS_OK;
    size_t bytes = (size_t)(mpi->request_count + 1) * sizeof *mpi->requests;
    struct comm_request **all = realloc(mpi->requests, bytes);
    if (!all)
        FAIL(STATUS_NOMEM, "out of memory for %d sums in progress", mpi->request_count + 1);
    mpi->requests = all;
    *request = calloc(1, sizeof **request);
    if (!*request)
        FAIL(STATUS_NOMEM, "out of memory for %d sums in progress", mpi->request_count + 1);
    all[mpi->request_count++] = *request;
fail:
    return status;
}

static enum status idle_request(struct mpi_comm *mpi, struct comm_request **request)
{
    for (int i = 0; i < mpi->request_count; i++) {
        if (!mpi->requests[i]->busy) {
            *request = mpi->requests[i];
            return STATUS_OK;
        }
    }
    return new_request(mpi, request);
}

/* Grows the request's arrays. Later steps with the same sizes allocate nothing. */
static enum status reserve(struct comm_request *r)
{
    enum status status = STATUS_OK;
    int chunks = (int)((r->count + comm_max_count - 1) / comm_max_count);
    if (chunks > r->chunk_capacity) {
        MPI_Request *grown = realloc(r->chunks, (size_t)chunks * sizeof *grown);
        if (!grown)
            FAIL(STATUS_NOMEM, "out of memory for a sum of %zu values", r->count);
        r->chunks = grown;
        r->chunk_capacity = chunks;
    }
    if (r->wire == COMM_BF16 && r->count > r->packed_capacity) {
        free(r->packed);
        r->packed_capacity = 0;
        r->packed = malloc(r->count * sizeof *r->packed);
        if (!r->packed)
            FAIL(STATUS_NOMEM, "out of memory for a bf16 sum of %zu values", r->count);
        r->packed_capacity = r->count;
    }
fail:
    return status;
}

static void pack(struct comm_request *r)
{
    for (size_t i = 0; i < r->count; i++)
        r->packed[i] = bf16_from_float(r->data[i]);
}

static void unpack(struct comm_request *r)
{
    for (size_t i = 0; i < r->count; i++)
        r->data[i] = bf16_to_float(r->packed[i]);
}

static enum status start(struct mpi_comm *mpi, struct comm_request *r)
{
    enum status status = STATUS_OK;
    TRY(reserve(r));
    if (r->wire == COMM_BF16)
        pack(r);
    for (size_t done = 0; done < r->count; done += comm_max_count) {
        int chunk = (int)(r->count - done < comm_max_count ? r->count - done : comm_max_count);
        MPI_Request *request = &r->chunks[r->chunk_count];
        if (r->wire == COMM_BF16)
            TRY_MPI(MPI_Iallreduce, MPI_IN_PLACE, r->packed + done, chunk, mpi->bf16, mpi->bf16_sum, mpi->world,
                    request);
        else
            TRY_MPI(MPI_Iallreduce, MPI_IN_PLACE, r->data + done, chunk, MPI_FLOAT, MPI_SUM, mpi->world, request);
        r->chunk_count++;
    }
fail:
    return status;
}

enum status mpi_all_reduce_start_f32(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                     bool deterministic, struct comm_request **request)
{
    enum status status = STATUS_OK;
    struct mpi_comm *mpi = (struct mpi_comm *)comm;
    struct comm_request *r = NULL;
    TRY(idle_request(mpi, &r));
    r->busy = true;
    r->deterministic = deterministic;
    r->wire = wire;
    r->data = data;
    r->count = count;
    r->chunk_count = 0;
    if (!deterministic)
        TRY(start(mpi, r));
    *request = r;
fail:
    return status;
}

enum status mpi_progress(struct comm *comm)
{
    enum status status = STATUS_OK;
    struct mpi_comm *mpi = (struct mpi_comm *)comm;
    for (int i = 0; i < mpi->request_count; i++) {
        struct comm_request *r = mpi->requests[i];
        int done;
        if (r->busy && r->chunk_count)
            TRY_MPI(MPI_Testall, r->chunk_count, r->chunks, &done, MPI_STATUSES_IGNORE);
    }
fail:
    return status;
}

enum status mpi_wait(struct comm *comm, struct comm_request *r)
{
    enum status status = STATUS_OK;
    if (r->deterministic) {
        TRY(mpi_deterministic_f32((struct mpi_comm *)comm, r->data, r->count, r->wire));
    } else {
        TRY_MPI(MPI_Waitall, r->chunk_count, r->chunks, MPI_STATUSES_IGNORE);
        if (r->wire == COMM_BF16)
            unpack(r);
    }
    r->busy = false;
fail:
    return status;
}

void mpi_requests_free(struct mpi_comm *mpi)
{
    for (int i = 0; i < mpi->request_count; i++) {
        free(mpi->requests[i]->packed);
        free(mpi->requests[i]->chunks);
        free(mpi->requests[i]);
    }
    free(mpi->requests);
}
