/* fake_cuda.h - device memory without a GPU: memory of the host that is locked except while kernels run. */
#ifndef CSC_TESTS_GPU_EMULATION_FAKE_CUDA_H
#define CSC_TESTS_GPU_EMULATION_FAKE_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>

/* Device memory can be touched only between unlock and lock, which may be nested; touching it elsewhere ends the
 * program. */
void fake_cuda_unlock(void);
void fake_cuda_lock(void);

/* Whether all of it lies in one allocation that has not been freed. */
bool fake_cuda_owns(const void *memory, size_t bytes);

/* Does work on a stream at once or, if the stream is being captured, keeps it with a copy of its arguments. */
typedef void fake_cuda_work(const void *arguments);
cudaError_t fake_cuda_enqueue(cudaStream_t stream, fake_cuda_work *work, const void *arguments, size_t bytes);
/* Makes the copies that are pending on a stream. */
cudaError_t fake_cuda_finish_copies(cudaStream_t stream);

/* The position of a captured stream: how much of each stream of the capture comes before. capture: number of the
 * capture; 0: the stream was not captured. */
enum { FAKE_MAX_CAPTURED_STREAMS = 16 };
struct fake_position {
    int capture, seen[FAKE_MAX_CAPTURED_STREAMS];
};
void fake_graph_position(cudaStream_t stream, struct fake_position *position);
/* Makes the stream follow that position, and takes it into the capture. */
cudaError_t fake_graph_follow(cudaStream_t stream, const struct fake_position *position);

/* fake_graph.c. forbid: returns cudaSuccess, but during a capture `error`, and the capture fails. */
bool fake_graph_captures(cudaStream_t stream);
bool fake_graph_captures_any(void);
cudaError_t fake_graph_forbid(cudaError_t error);

/* What has happened so far. streams and events: waits of the host for all of a stream and for an event; queued: work
 * that was not in a graph; graphs: graphs launched; sums: NCCL's sums; behind_graphs: sums whose last launch before
 * was a graph; profiled_graphs: graphs launched while the profiler was on. */
extern struct fake_counts {
    long streams, events, queued, graphs, sums, behind_graphs, profiled_graphs;
} fake_counts;
extern bool fake_last_was_graph;

/* Events recorded on a hung stream never complete. */
void fake_cuda_hang(struct fake_stream *stream, bool hung);

/* Advances the GPU's clock, which events read. */
void fake_cuda_advance_clock(double ms);

#endif
