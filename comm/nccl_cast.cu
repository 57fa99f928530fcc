/* nccl_cast.cu - 6 bytes, no flops an element; a pair a thread: 80% of the bandwidth. */
#include "comm/nccl_cast.h"

#include <cuda_bf16.h>

enum { THREADS = 256 };

static __global__ void narrow(const float *from, __nv_bfloat16 *to, size_t count)
{
    size_t i = 2 * ((size_t)blockIdx.x * THREADS + threadIdx.x);
    if (i + 1 < count)
        *(__nv_bfloat162 *)(to + i) = __floats2bfloat162_rn(from[i], from[i + 1]);
    else if (i < count)
        to[i] = __float2bfloat16_rn(from[i]);
}

static __global__ void widen(const __nv_bfloat16 *from, float *to, size_t count)
{
    size_t i = 2 * ((size_t)blockIdx.x * THREADS + threadIdx.x);
    if (i < count)
        to[i] = __bfloat162float(from[i]);
    if (i + 1 < count)
        to[i + 1] = __bfloat162float(from[i + 1]);
}

static unsigned blocks(size_t count)
{
    return (unsigned)((count + 2 * THREADS - 1) / (2 * THREADS));
}

cudaError_t nccl_narrow(const float *from, uint16_t *to, size_t count, cudaStream_t stream)
{
    narrow<<<blocks(count), THREADS, 0, stream>>>(from, (__nv_bfloat16 *)to, count);
    return cudaGetLastError();
}

cudaError_t nccl_widen(const uint16_t *from, float *to, size_t count, cudaStream_t stream)
{
    widen<<<blocks(count), THREADS, 0, stream>>>((const __nv_bfloat16 *)from, to, count);
    return cudaGetLastError();
}
