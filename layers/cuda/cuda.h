/* cuda.h - the CUDA backend: cuDNN and cuBLASLt for convolutions, own kernels for the rest. */
#ifndef CSC_LAYERS_CUDA_CUDA_H
#define CSC_LAYERS_CUDA_CUDA_H

#include "layers/backend.h"

/* STATUS_USAGE, saying why, unless GPU `index` of this machine can be used. */
enum status cuda_check(int index);
enum status cuda_open(struct device **device, int index, enum precision precision, int threads);

#endif
