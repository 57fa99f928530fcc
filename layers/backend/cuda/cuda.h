/* cuda.h - the CUDA backend: cuDNN and cuBLASLt for convolutions, own kernels for the rest. */
#ifndef CSC_LAYERS_BACKEND_CUDA_CUDA_H
#define CSC_LAYERS_BACKEND_CUDA_CUDA_H

#include "layers/backend/backend.h"

/* STATUS_USAGE, saying why, unless the GPU of the host's rank can be used: ranks take those that they see in turn. */
enum status cuda_check(int rank);
/* See device_plan_files. */
void cuda_plan_files(const char *plans, const char *candidates);
enum status cuda_open(struct device **device, int rank, enum precision precision, int threads);

#endif
