/* nccl_cast.cu - 6 bytes, no flops an element, 8 a thread: 85% of the bandwidth. In the kernels' language, which the tests run on
 * the CPU. */
#include "comm/nccl_cast.h"

#include "layers/cuda/kernel.h"

struct cast {
    const void *from;
    void *to;
    size_t count;
};

DEVICE void cast_values(const struct cast *a, enum element from, enum element to, int width)
{
    float v[WIDE];
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * WIDE;
    load_flat(a->from, i, a->count, from, width, v);
    store_flat(a->to, i, a->count, to, width, v);
}
KERNEL(narrow_1, cast, cast_values(&a, F32, BF16, 1))
KERNEL(narrow_8, cast, cast_values(&a, F32, BF16, WIDE))
KERNEL(widen_1, cast, cast_values(&a, BF16, F32, 1))
KERNEL(widen_8, cast, cast_values(&a, BF16, F32, WIDE))

cudaError_t nccl_narrow(const float *from, uint16_t *to, size_t count, cudaStream_t stream)
{
    const struct queue q = { stream, F32, NULL, 0 };
    struct cast a = { from, to, count };
    if (aligned16(from) && aligned16(to))
        RUN(narrow_8, blocks_for((count + WIDE - 1) / WIDE), 1, &q, a);
    else
        RUN(narrow_1, blocks_for((count + WIDE - 1) / WIDE), 1, &q, a);
    return cudaGetLastError();
}

cudaError_t nccl_widen(const uint16_t *from, float *to, size_t count, cudaStream_t stream)
{
    const struct queue q = { stream, F32, NULL, 0 };
    struct cast a = { from, to, count };
    if (aligned16(from) && aligned16(to))
        RUN(widen_8, blocks_for((count + WIDE - 1) / WIDE), 1, &q, a);
    else
        RUN(widen_1, blocks_for((count + WIDE - 1) / WIDE), 1, &q, a);
    return cudaGetLastError();
}
