/* mpi_internal.h - the MPI communicator. Only files of comm/ that may include <mpi.h> include this. */
#ifndef CSC_COMM_MPI_INTERNAL_H
#define CSC_COMM_MPI_INTERNAL_H

#include <mpi.h>

#include "comm/comm_internal.h"

struct mpi_comm {
    struct comm base;
    bool under_mpirun;
    MPI_Comm world;    /* a duplicate of MPI_COMM_WORLD that returns errors */
    MPI_Datatype bf16; /* two bytes */
    MPI_Op bf16_sum;
    void *packed, *received;       /* SEGMENT_ELEMENTS elements of 8 bytes each, for deterministic sums */
    struct comm_request *requests; /* a list; the first idle one is used, so that every step uses the same ones */
};

#define SEGMENT_ELEMENTS ((size_t)1 << 17) /* elements that a deterministic sum sends at a time: at most 1 MB */

/* Reports the failure of an MPI call as STATUS_LOST. */
enum status report_mpi_error(const char *call, int error, const char *file, int line);

#define TRY_MPI(function, ...)                                                \
    do {                                                                      \
        int error_ = function(__VA_ARGS__);                                   \
        if (error_ != MPI_SUCCESS) {                                          \
            status = report_mpi_error(#function, error_, __FILE__, __LINE__); \
            goto fail;                                                        \
        }                                                                     \
    } while (0)

/* How many of `count` elements the next call takes. */
static inline int mpi_chunk(size_t count)
{
    return (int)(count < comm_max_count ? count : comm_max_count);
}

/* mpi_deterministic.c. into = low + high in bf16, rounded; `into` may be one of them. */
void mpi_add_bf16(void *into, const void *low, const void *high, size_t count);

/* Sums in an order that depends only on the number of ranks. */
enum status mpi_deterministic_f32(struct mpi_comm *comm, float *data, size_t count, enum comm_dtype wire);
enum status mpi_deterministic_f64(struct comm *comm, double *data, size_t count);

/* mpi_request.c: sums in progress. */
enum status mpi_all_reduce_start_f32(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                     bool deterministic, struct comm_request **request);
enum status mpi_progress(struct comm *comm);
enum status mpi_wait(struct comm *comm, struct comm_request *request);
void mpi_requests_free(struct mpi_comm *comm);

#endif
