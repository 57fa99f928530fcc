/* comm.h - ranks behind one table: one process, MPI, later NCCL.
 * Every call is collective unless it says otherwise: all ranks make it, in the same order, with the same
 * counts. Buffers are host memory here; a device's communicator overrides the reductions. */
#ifndef CSC_COMM_COMM_H
#define CSC_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct comm;
struct comm_request; /* a reduction under way, owned by the communicator */

enum comm_dtype { COMM_F32, COMM_BF16 }; /* what travels; sums are rounded to it at every hop */

struct comm_ops {
    const char *name; /* "self", "mpi" */
    enum status (*broadcast)(struct comm *comm, void *data, size_t bytes, int root);
    /* data[i] = sum over ranks, in place. `deterministic`: recursive doubling of our own, whose order of
     * summation depends only on the number of ranks; else as the library likes. */
    enum status (*all_reduce_f32)(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                  bool deterministic);
    enum status (*all_reduce_f64)(struct comm *comm, double *data, size_t count, bool deterministic);
    /* The same without waiting; *request stays valid until waited for. Data must not be touched. */
    enum status (*all_reduce_start_f32)(struct comm *comm, float *data, size_t count, enum comm_dtype wire,
                                        bool deterministic, struct comm_request **request);
    enum status (*progress)(struct comm *comm); /* not collective: gives reductions under way a push */
    enum status (*wait)(struct comm *comm, struct comm_request *request);
    enum status (*all_reduce_max_i64)(struct comm *comm, int64_t *data, size_t count);
    /* out (on every rank): size * bytes, in rank order. */
    enum status (*all_gather)(struct comm *comm, const void *data, size_t bytes, void *out);
    enum status (*barrier)(struct comm *comm);
    void (*abort)(struct comm *comm, int exit_code) __attribute__((noreturn)); /* not collective: ends all ranks */
    void (*destroy)(struct comm *comm);
};

struct comm {
    const struct comm_ops *ops;
    int rank, size;             /* of the job */
    int local_rank, local_size; /* among the ranks that share this host's memory */
    bool other_rank_reports;    /* the last comm_agree chose another rank's failure */
    char library[64];           /* such as "Open MPI v4.1.4"; "" if there is none */
};

void comm_destroy(struct comm *comm); /* NULL is fine */

/* Every rank gives its own status; all return the first failing rank's code (STATUS_OK if none). That rank
 * keeps its own status record; on all others the record says "rank 3 failed: ...". If the ranks cannot be
 * reached, a rank that failed returns its own failure, the others STATUS_LOST. */
enum status comm_agree(struct comm *comm, enum status mine);

/* Whether this rank is the one to print the failure: not if comm_agree chose another rank's. Without a
 * communicator (NULL: comm_create failed), only the process that the launcher calls rank 0. Not collective. */
bool comm_should_report(const struct comm *comm);

#endif
