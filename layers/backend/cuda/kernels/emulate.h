/* emulate.h - CUDA's programming model on the host, so that kernels can be tested without a GPU
 * (tests/gpu_emulation). Blocks run one after another; the threads of a block are fibers that switch at barriers and
 * warp shuffles. Every other launch takes blocks and threads in reverse order, so that a missing barrier shows.
 * Shared memory begins as NaN in each block. A barrier that only some threads reach ends the program. */
#ifndef CSC_LAYERS_BACKEND_CUDA_KERNELS_EMULATE_H
#define CSC_LAYERS_BACKEND_CUDA_KERNELS_EMULATE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "layers/backend/element.h"

struct emulated_index {
    unsigned x, y;
};
extern struct emulated_index threadIdx, blockIdx, blockDim, gridDim;

typedef struct {
    float x, y, z, w;
} __attribute__((aligned(16))) float4;
typedef struct {
    uint32_t x, y;
} __attribute__((aligned(8))) uint2;
typedef struct {
    uint32_t x, y, z, w;
} __attribute__((aligned(16))) uint4;

typedef void emulated_kernel(const void *arguments);
/* stream: a cudaStream_t, which may be in a capture; NULL: the kernel runs at once. */
void emulate_launch(void *stream, emulated_kernel *kernel, const void *arguments, size_t bytes, unsigned threads,
                    size_t blocks_x, size_t blocks_y);
void emulate_barrier(void);
void emulate_shared(void *memory, size_t bytes);
/* Returns the v of the thread of this warp whose index differs in the bits `lanes`. */
double emulate_shuffle(double v, int lanes);

#define DEVICE static inline
#define KERNEL(name, arguments, ...)         \
    static void name(const void *arguments_) \
    {                                        \
        struct arguments a;                  \
        memcpy(&a, arguments_, sizeof a);    \
        __VA_ARGS__;                         \
    }
#define KERNEL_MIN_BLOCKS(blocks, name, arguments, ...) KERNEL(name, arguments, __VA_ARGS__)
#define RUN(kernel, blocks_x, blocks_y, queue, arguments) \
    emulate_launch((queue)->stream, kernel, &(arguments), sizeof(arguments), THREADS, blocks_x, blocks_y)
#define SHARED(type, name, count) \
    static type name[count];      \
    emulate_shared(name, sizeof name)
#define __syncthreads emulate_barrier
#define __launch_bounds__(threads)

static inline float shuffle_xor(float v, int lanes)
{
    return (float)emulate_shuffle(v, lanes);
}

static inline double shuffle_xor_double(double v, int lanes)
{
    return emulate_shuffle(v, lanes);
}

static inline float bits_as_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline float rounded_product(float a, float b)
{
    return a * b;
}

static inline uint32_t bf16_pair(float low, float high)
{
    return bf16_from_float(low) | (uint32_t)bf16_from_float(high) << 16;
}

#endif
