/* comm.h - communication between the ranks of a job: one table of operations over a single process, MPI or NCCL.
 * How a communicator is opened: comm/create.h and comm/nccl.h.
 * Unless it says otherwise, every operation is collective: all ranks call it in the same order with the same counts,
 * from the thread that created the communicator. Buffers are in host memory; a communicator of nccl.h sums gradients in
 * GPU memory and can do nothing else. If ranks cannot be reached, operations return STATUS_LOST. */
#ifndef CSC_COMM_COMM_H
#define CSC_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct comm;
struct comm_request; /* a reduction in progress; owned by the communicator */

/* The type in which values are sent and added; each partial sum is rounded to it. */
enum comm_dtype { COMM_F32, COMM_BF16 };

struct comm_ops {
    const char *name; /* "self", "mpi" or "nccl" */

    enum status (*broadcast)(struct comm *comm, void *data, size_t bytes, int root);

    /* Replaces data[i] by its sum over the ranks. If `deterministic`, and always in double precision, the order of
     * additions depends only on the number of ranks (recursive doubling); otherwise the library chooses it. */
    enum status (*all_reduce_f32)(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                  bool deterministic);
    enum status (*all_reduce_f64)(struct comm *comm, double *data, size_t count);

    /* Starts a sum and returns at once. The caller must not touch `data` until it has passed *request to `wait`. */
    enum status (*all_reduce_start_f32)(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                        bool deterministic, struct comm_request **request);
    enum status (*progress)(struct comm *comm); /* not collective: lets started sums make progress */
    enum status (*wait)(struct comm *comm, struct comm_request *request);

    /* Replaces data[i] by its maximum over the ranks. */
    enum status (*all_reduce_max_i64)(struct comm *comm, int64_t *data, size_t count);

    /* Collects `bytes` of every rank in `out` (size * bytes, in the order of the ranks), on every rank. */
    enum status (*all_gather)(struct comm *comm, const void *data, size_t bytes, void *out);

    enum status (*barrier)(struct comm *comm);
    void (*abort)(struct comm *comm, int exit_code) __attribute__((noreturn)); /* not collective: ends all ranks */
    void (*destroy)(struct comm *comm);
};

struct comm {
    const struct comm_ops *ops;
    int rank, size;             /* in the job */
    int local_rank, local_size; /* among the ranks on this host */
    bool other_rank_reports;    /* the last comm_agree returned another rank's failure */
    char library[64];           /* such as "Open MPI v4.1.4"; "" without MPI */
};

void comm_destroy(struct comm *comm); /* NULL is fine */

/* Makes all ranks know of a failure. Each rank passes its own status; all ranks return that of the lowest rank that
 * failed, or STATUS_OK. That rank keeps its status record; the record of the others says "rank 3 failed: ...". If the
 * ranks cannot be reached, a rank that failed returns its own status and the others return STATUS_LOST. */
enum status comm_agree(struct comm *comm, enum status own);

/* Whether this rank should print the failure: false if comm_agree returned another rank's. If `comm` is NULL because
 * comm_create failed, only the process that the launcher calls rank 0 should. Not collective. */
bool comm_should_report(const struct comm *comm);

#endif
