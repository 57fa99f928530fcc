/* cuda_profiler_api.h - the part of CUDA's profiler that layers/backend/cuda uses, counted by fake_cuda.c. */
#ifndef CSC_TESTS_GPU_EMULATION_FAKE_CUDA_PROFILER_API_H
#define CSC_TESTS_GPU_EMULATION_FAKE_CUDA_PROFILER_API_H

#include <cuda_runtime_api.h>

cudaError_t cudaProfilerStart(void);
cudaError_t cudaProfilerStop(void);

#endif
