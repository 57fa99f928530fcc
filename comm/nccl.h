/* nccl.h - sums of gradients in GPU memory over the ranks, by NCCL. Everything else goes through a communicator in host
 * memory (comm/create.h). Where NCCL is not built in, the functions return STATUS_USAGE and say so. */
#ifndef CSC_COMM_NCCL_H
#define CSC_COMM_NCCL_H

#include "comm/comm.h"

/* Collective, after every rank has opened its GPU: STATUS_USAGE if two ranks of a host use the same GPU. */
enum status comm_nccl_check(struct comm *host_comm);

/* Allocates GPU memory that NCCL can register, for comm_nccl_create. STATUS_NOMEM. Freed by comm_nccl_free, which
 * accepts NULL, after the communicator has been destroyed. */
enum status comm_nccl_allocate(void **memory, size_t bytes);
void comm_nccl_free(void *memory);

/* Collective. Creates a communicator for buckets, which has only all_reduce_f32, all_reduce_start_f32, progress, wait
 * and destroy. `host_comm` must live longer.
 * - Sums accept ranges of `memory` (`count` floats from comm_nccl_allocate). They are not deterministic.
 * - stream (cudaStream_t) is where gradients are computed. A sum starts after the work that is queued there at that
 *   time and runs on a stream of its own. Work that is queued after `wait` sees its result.
 * - wire is the type of all sums. COMM_BF16 allocates half as much GPU memory again.
 * `memory` is registered as a symmetric window, so that NCCL can add without copies where the machine allows it.
 * STATUS_LOST, also from `wait`, if NCCL fails or takes longer than timeout_s seconds. */
enum status comm_nccl_create(struct comm **comm, struct comm *host_comm, void *stream, float *memory, size_t count,
                             enum comm_dtype wire, double timeout_s);

#endif
