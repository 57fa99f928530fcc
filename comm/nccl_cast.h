/* nccl_cast.h - converts gradients to bf16 and back on the GPU, rounding to nearest even, for sums that are sent in
 * bf16. Both take count >= 1 values at any address and return the error of the launch. */
#ifndef CSC_COMM_NCCL_CAST_H
#define CSC_COMM_NCCL_CAST_H

#ifdef __cplusplus
extern "C" {
#endif

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

cudaError_t nccl_f32_to_bf16(const float *from, uint16_t *to, size_t count, cudaStream_t stream);
cudaError_t nccl_bf16_to_f32(const uint16_t *from, float *to, size_t count, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
