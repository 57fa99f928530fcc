/* cuda.h - the CUDA backend: convolutions by cuDNN and cuBLASLt, everything else by kernels of its own (kernels/). */
#ifndef CSC_LAYERS_BACKEND_CUDA_CUDA_H
#define CSC_LAYERS_BACKEND_CUDA_CUDA_H

#include "layers/backend/backend.h"

/* Returns STATUS_USAGE with the reason if the GPU of this rank cannot be used. `rank` counts the ranks of this host;
 * they are assigned the GPUs that they see in turn. */
enum status cuda_check(int rank);
/* Sets the files that devices opened later use: see device_plan_files in device.h. STATUS_USAGE if a path is too long.
 */
enum status cuda_plan_files(const char *plans, const char *candidates);
enum status cuda_open(struct device **device, int rank, enum precision precision, int threads);

#endif
