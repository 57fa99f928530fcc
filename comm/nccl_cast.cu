/* nccl_cast.cu - converts gradients to bf16 and back, see nccl_cast.h. Written in the language of the kernels
 * (layers/backend/cuda/kernels/kernel.h), so that the tests run it on the CPU. Cost: 6 bytes, no flops; 85% of the
 * bandwidth. */
#include "comm/nccl_cast.h"

#include "layers/backend/cuda/kernels/kernel.h"

struct cast {
    const void *from;
    void *to;
    size_t count;
};

/* type: of `from`; `to` has the other one. */
DEVICE void cast(const struct cast *a, enum element type, int width)
{
    float v[VECTOR];
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * VECTOR;
    load_flat(a->from, i, a->count, type, width, v);
    store_flat(a->to, i, a->count, type == F32 ? BF16 : F32, width, v);
}
KERNELS(cast, cast)

static cudaError_t run(const void *from, enum element type, void *to, size_t count, cudaStream_t stream)
{
    const struct queue q = { stream, type, NULL, 0 };
    struct cast a = { from, to, count };
    int width = aligned16(from) && aligned16(to) ? VECTOR : 1;
    RUN_TYPED(cast, type, width, blocks_for((count + VECTOR - 1) / VECTOR), 1, &q, a);
    return cudaGetLastError();
}

cudaError_t nccl_f32_to_bf16(const float *from, uint16_t *to, size_t count, cudaStream_t stream)
{
    return run(from, F32, to, count, stream);
}

cudaError_t nccl_bf16_to_f32(const uint16_t *from, float *to, size_t count, cudaStream_t stream)
{
    return run(from, BF16, to, count, stream);
}
