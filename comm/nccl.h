/* nccl.h - gradients in GPU memory summed over the ranks by NCCL, beside a communicator of the ranks for all else. */
#ifndef CSC_COMM_NCCL_H
#define CSC_COMM_NCCL_H

#include "comm/comm.h"

/* STATUS_USAGE if two ranks of a host compute on the same GPU, or this build has no NCCL. Collective, once devices are
 * open. */
enum status comm_nccl_check(struct comm *host_comm);

/* GPU memory that NCCL can show to the peers, for comm_nccl_create, which must be over before it is freed. free accepts
 * NULL. STATUS_NOMEM. */
enum status comm_nccl_allocate(void **memory, size_t bytes);
void comm_nccl_free(void *memory);

/* A communicator for buckets: all_reduce_start_f32 and wait take ranges of `memory` (count floats of
 * comm_nccl_allocate), every other operation is `ranks`'s, which must outlive it. stream (cudaStream_t): where
 * gradients are computed; sums are queued behind what is there when they start, on a stream of their own, and what is
 * queued on it after `wait` sees them. Deterministic sums do not exist. The memory is registered as a symmetric window,
 * so that sums need no copies where NCCL can do without; wire: as in the sums; for COMM_BF16 it takes half as much
 * memory of its own. Collective. STATUS_LOST if NCCL fails or takes longer than timeout_s; also wait returns that. */
enum status comm_nccl_create(struct comm **comm, struct comm *host_comm, void *stream, float *memory, size_t count,
                             enum comm_dtype wire, double timeout_s);

#endif
