/* fake_cuda.h - the memory of a GPU that is not there: the host's, but closed to the program except while kernels run. */
#ifndef CSC_TESTS_LAYERS_FAKE_CUDA_H
#define CSC_TESTS_LAYERS_FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>

/* Between these, which may be nested, device memory can be read and written; outside, touching it ends the program. */
void fake_cuda_open(void);
void fake_cuda_close(void);

/* Whether all of it lies in one allocation that has not been freed. */
bool fake_cuda_owns(const void *memory, size_t bytes);

struct fake_stream;
/* Events recorded on a stuck stream never come to pass. */
void fake_cuda_stick(struct fake_stream *stream, bool stuck);

/* The GPU's clock goes on; events take its time. */
void fake_cuda_spend(double ms);

/* Allocations that have not been freed. */
int fake_cuda_allocations(void);

#endif
