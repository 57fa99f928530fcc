/* fake_cuda.h - the memory of a GPU that is not there: the host's, but closed to the program except while kernels run.
 */
#ifndef CSC_TESTS_GPU_EMULATION_FAKE_CUDA_H
#define CSC_TESTS_GPU_EMULATION_FAKE_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>

/* Between these, which may be nested, device memory can be read and written; outside, touching it ends the program. */
void fake_cuda_unlock(void);
void fake_cuda_lock(void);

/* Whether all of it lies in one allocation that has not been freed. */
bool fake_cuda_owns(const void *memory, size_t bytes);

/* Work on a stream: done at once, or kept, with a copy of its arguments, where the stream is being captured. */
typedef void fake_cuda_work(const void *arguments);
cudaError_t fake_cuda_enqueue(cudaStream_t stream, fake_cuda_work *work, const void *arguments, size_t bytes);
/* The copies that were queued on a stream are done before what comes now. */
cudaError_t fake_cuda_finish_copies(cudaStream_t stream);

/* How far a captured stream had come in each stream of its capture; capture 0: it was not captured. */
enum { FAKE_MAX_CAPTURED_STREAMS = 16 };
struct fake_position {
    int capture, seen[FAKE_MAX_CAPTURED_STREAMS];
};
void fake_graph_position(cudaStream_t stream, struct fake_position *position);
/* The stream comes after what is marked, and into the capture with it. */
cudaError_t fake_graph_follow(cudaStream_t stream, const struct fake_position *position);

/* fake_graph.c. forbids: cudaSuccess, but while a stream is being captured that error, and the capture fails. */
bool fake_graph_captures(cudaStream_t stream);
bool fake_graph_captures_any(void);
cudaError_t fake_graph_forbid(cudaError_t error);

/* What happened so far: waits of the host for all of a stream and for an event, work queued call by call, graphs
 * launched, NCCL's sums, how many of them began when the last thing launched was a graph, and graphs launched while a
 * profiler was on. */
extern struct fake_counts {
    long streams, events, queued, graphs, sums, behind_graphs, profiled_graphs;
} fake_counts;
extern bool fake_last_was_graph;

/* Events recorded on a stuck stream never come to pass. */
void fake_cuda_hang(struct fake_stream *stream, bool hung);

/* The GPU's clock goes on; events take its time. */
void fake_cuda_advance_clock(double ms);

/* Allocations that have not been freed. */
int fake_cuda_allocations(void);

#endif
