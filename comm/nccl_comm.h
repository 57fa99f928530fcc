/* nccl_comm.h - gradients in GPU memory summed over the ranks by NCCL, beside a communicator of the ranks for all else. */
#ifndef CSC_COMM_NCCL_COMM_H
#define CSC_COMM_NCCL_COMM_H

#include "comm/comm.h"

/* A communicator for buckets: start_sum_f32 and wait take device memory, every other operation is `ranks`'s, which
 * must outlive it. stream (cudaStream_t): where gradients are computed; sums are queued behind what is there when they
 * start, on a stream of their own, and what is queued on it after `wait` sees them. Ordered sums do not exist.
 * memory (bytes): registered with NCCL, so that sums inside it need no copies. Collective. STATUS_USAGE if two ranks
 * share a GPU, STATUS_LOST if NCCL fails or takes longer than timeout_s; also wait returns that. */
enum status comm_nccl_create(struct comm **comm, struct comm *ranks, void *stream, void *memory, size_t bytes,
                             double timeout_s);

#endif
