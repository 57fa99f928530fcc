/* cuda_profiler_api.h - what layers/cuda asks of CUDA's profiler, counted by fake_cuda.c. */
#ifndef CSC_TESTS_GPU_EMULATION_FAKE_CUDA_PROFILER_API_H
#define CSC_TESTS_GPU_EMULATION_FAKE_CUDA_PROFILER_API_H

#include <cuda_runtime_api.h>

cudaError_t cudaProfilerStart(void);
cudaError_t cudaProfilerStop(void);

#endif
