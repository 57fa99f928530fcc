/* mpi_request.c - sums in progress, one MPI_Iallreduce per chunk.
 * bf16 sums are sent from a packed copy that belongs to the request. Deterministic sums are computed when they are
 * waited for, which every rank does in the same order. */
#include <stdlib.h>

#include "base/bf16.h"
#include "base/integer.h"
#include "base/memory.h"
#include "comm/mpi_internal.h"

struct comm_request {
    struct comm_request *next;
    bool busy, deterministic;
    enum comm_dtype wire;
    float *data;
    size_t count;
    uint8_t *packed; /* count bf16 values, if they are sent as such */
    size_t packed_bytes;
    MPI_Request *chunks;
    size_t chunk_capacity;
    int chunk_count;
};

static enum status idle_request(struct mpi_comm *mpi, struct comm_request **request)
{
    enum status status = STATUS_OK;
    struct comm_request **r = &mpi->requests;
    while (*r && (*r)->busy)
        r = &(*r)->next;
    if (!*r && !(*r = calloc(1, sizeof **r)))
        FAIL(STATUS_NOMEM, "out of memory for a sum in progress");
    *request = *r;
fail:
    return status;
}

/* The request's arrays grow in the first step; later steps with the same sizes allocate nothing. */
static enum status start(struct mpi_comm *mpi, struct comm_request *r)
{
    enum status status = STATUS_OK;
    bool packs = r->wire == COMM_BF16;
    char *data = (char *)r->data;
    size_t bytes = packs ? sizeof(uint16_t) : sizeof(float);
    TRY(array_grow(&r->chunks, &r->chunk_capacity, (size_t)ceil_div(r->count, comm_max_count), sizeof *r->chunks));
    if (packs) {
        TRY(buffer_grow(&r->packed, &r->packed_bytes, r->count * bytes));
        bf16_from_floats((uint16_t *)r->packed, r->data, r->count);
        data = (char *)r->packed;
    }
    for (size_t done = 0; done < r->count; done += comm_max_count) {
        TRY_MPI(MPI_Iallreduce, MPI_IN_PLACE, data + done * bytes, mpi_chunk(r->count - done),
                packs ? mpi->bf16 : MPI_FLOAT, packs ? mpi->bf16_sum : MPI_SUM, mpi->world, &r->chunks[r->chunk_count]);
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
    int done;
    for (struct comm_request *r = ((struct mpi_comm *)comm)->requests; r; r = r->next)
        if (r->busy && r->chunk_count)
            TRY_MPI(MPI_Testall, r->chunk_count, r->chunks, &done, MPI_STATUSES_IGNORE);
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
            bf16_to_floats(r->data, (const uint16_t *)r->packed, r->count);
    }
    r->busy = false;
fail:
    return status;
}

void mpi_requests_free(struct mpi_comm *mpi)
{
    for (struct comm_request *r = mpi->requests, *next; r; r = next) {
        next = r->next;
        free(r->packed);
        free(r->chunks);
        free(r);
    }
}
