/* kernel.h - the language of the kernels: a subset of C and CUDA C. nvcc compiles it for GPUs, and a C compiler for
 * the host through emulate.h, where the tests run it.
 * A kernel is a function body over (arguments, element type, width). KERNELS makes one kernel of it for each type
 * and width, so that both are constants for the compiler. Activations are read and written `width` elements at a
 * time: VECTOR of them, which are 16 bytes of bf16 or 32 of fp32, or 1 if the shape or the alignment demands it.
 * "Cost" in a comment: bytes moved and floating-point operations for each element, and the share of the GPU's memory
 * bandwidth that the kernel is to reach. */
#ifndef CSC_LAYERS_BACKEND_CUDA_KERNELS_KERNEL_H
#define CSC_LAYERS_BACKEND_CUDA_KERNELS_KERNEL_H

#include <math.h>
#include <stdint.h>

#include "layers/backend/cuda/kernels/kernels.h"

enum { THREADS = 256, WARP = 32, VECTOR = 8 };

#ifdef __CUDACC__
#include <cuda_runtime.h>

#define DEVICE static __device__ __forceinline__
#define KERNEL_MIN_BLOCKS(blocks, name, arguments, ...)                                                        \
    static __global__ void __launch_bounds__(THREADS, blocks) name(const __grid_constant__ struct arguments a) \
    {                                                                                                          \
        __VA_ARGS__;                                                                                           \
    }
#define KERNEL(name, arguments, ...) KERNEL_MIN_BLOCKS(1, name, arguments, __VA_ARGS__)
#define RUN(kernel, blocks_x, blocks_y, queue, arguments) \
    kernel<<<dim3((unsigned)(blocks_x), (unsigned)(blocks_y)), THREADS, 0, (cudaStream_t)(queue)->stream>>>(arguments)
#define SHARED(type, name, count) __shared__ type name[count]

DEVICE float shuffle_xor(float v, int lanes)
{
    return __shfl_xor_sync(0xffffffffu, v, lanes);
}

DEVICE double shuffle_xor_double(double v, int lanes)
{
    return __shfl_xor_sync(0xffffffffu, v, lanes);
}

DEVICE float bits_as_float(uint32_t bits)
{
    return __uint_as_float(bits);
}

/* a * b rounded to float: the compiler may not contract it with an addition. */
DEVICE float rounded_product(float a, float b)
{
    return __fmul_rn(a, b);
}

/* Rounds both to nearest even. `low` comes first in memory. */
DEVICE uint32_t bf16_pair(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
#else
#include "layers/backend/cuda/kernels/emulate.h"
#endif

/* blocks: at least so many blocks must fit a multiprocessor's registers at once. */
#define KERNELS_MIN_BLOCKS(blocks, body, arguments)                        \
    KERNEL_MIN_BLOCKS(blocks, body##_f1, arguments, body(&a, F32, 1))      \
    KERNEL_MIN_BLOCKS(blocks, body##_f8, arguments, body(&a, F32, VECTOR)) \
    KERNEL_MIN_BLOCKS(blocks, body##_b1, arguments, body(&a, BF16, 1))     \
    KERNEL_MIN_BLOCKS(blocks, body##_b8, arguments, body(&a, BF16, VECTOR))
#define KERNELS(body, arguments) KERNELS_MIN_BLOCKS(1, body, arguments)

#define RUN_TYPED(body, type, width, blocks_x, blocks_y, queue, arguments) \
    do {                                                                   \
        if ((type) == F32 && (width) == 1)                                 \
            RUN(body##_f1, blocks_x, blocks_y, queue, arguments);          \
        else if ((type) == F32)                                            \
            RUN(body##_f8, blocks_x, blocks_y, queue, arguments);          \
        else if ((width) == 1)                                             \
            RUN(body##_b1, blocks_x, blocks_y, queue, arguments);          \
        else                                                               \
            RUN(body##_b8, blocks_x, blocks_y, queue, arguments);          \
    } while (0)

/* `width` elements as they lie in memory. Kernels fetch several before they unpack the first, so that several loads
 * are in flight. */
struct packed {
    uint4 bits;       /* of bf16 */
    float4 low, high; /* of float */
};

DEVICE struct packed fetch(const void *from, size_t i, enum element type, int width)
{
    struct packed p;
    if (type == F32 && width == 1)
        p.low.x = ((const float *)from)[i];
    else if (type == F32)
        p.low = *(const float4 *)((const float *)from + i), p.high = *(const float4 *)((const float *)from + i + 4);
    else if (width == 1)
        p.bits.x = ((const uint16_t *)from)[i];
    else
        p.bits = *(const uint4 *)((const uint16_t *)from + i);
    return p;
}

DEVICE void unpack(const struct packed *p, enum element type, int width, float *v)
{
    if (type == F32)
        v[0] = p->low.x;
    else
        v[0] = bits_as_float(p->bits.x << 16);
    if (width == 1)
        return;
    if (type == F32) {
        v[1] = p->low.y, v[2] = p->low.z, v[3] = p->low.w;
        v[4] = p->high.x, v[5] = p->high.y, v[6] = p->high.z, v[7] = p->high.w;
    } else {
        v[1] = bits_as_float(p->bits.x & 0xffff0000u);
        v[2] = bits_as_float(p->bits.y << 16), v[3] = bits_as_float(p->bits.y & 0xffff0000u);
        v[4] = bits_as_float(p->bits.z << 16), v[5] = bits_as_float(p->bits.z & 0xffff0000u);
        v[6] = bits_as_float(p->bits.w << 16), v[7] = bits_as_float(p->bits.w & 0xffff0000u);
    }
}

/* v[0..width) = elements i .. i + width - 1. */
DEVICE void load(const void *from, size_t i, enum element type, int width, float *v)
{
    struct packed p = fetch(from, i, type, width);
    unpack(&p, type, width, v);
}

DEVICE void store(void *to, size_t i, enum element type, int width, const float *v)
{
    if (type == F32 && width == 1) {
        ((float *)to)[i] = v[0];
    } else if (type == F32) {
        float4 *p = (float4 *)((float *)to + i), a, b;
        a.x = v[0], a.y = v[1], a.z = v[2], a.w = v[3];
        b.x = v[4], b.y = v[5], b.z = v[6], b.w = v[7];
        p[0] = a;
        p[1] = b;
    } else if (width == 1) {
        ((uint16_t *)to)[i] = (uint16_t)bf16_pair(v[0], 0);
    } else {
        uint4 a;
        a.x = bf16_pair(v[0], v[1]);
        a.y = bf16_pair(v[2], v[3]);
        a.z = bf16_pair(v[4], v[5]);
        a.w = bf16_pair(v[6], v[7]);
        *(uint4 *)((uint16_t *)to + i) = a;
    }
}

/* load_flat and store_flat move VECTOR elements, but only those below count; the others are read as 0. */
DEVICE void load_flat(const void *from, size_t i, size_t count, enum element type, int width, float *v)
{
    if (width == VECTOR && i + VECTOR <= count) {
        load(from, i, type, VECTOR, v);
    } else {
        for (int k = 0; k < VECTOR; k++) {
            v[k] = 0;
            if (i + k < count)
                load(from, i + k, type, 1, &v[k]);
        }
    }
}

DEVICE void store_flat(void *to, size_t i, size_t count, enum element type, int width, const float *v)
{
    if (width == VECTOR && i + VECTOR <= count) {
        store(to, i, type, VECTOR, v);
    } else {
        for (int k = 0; k < VECTOR; k++)
            if (i + k < count)
                store(to, i + k, type, 1, &v[k]);
    }
}

/* The sum over the block, in a fixed order; only thread 0 gets it. sums: THREADS / WARP values of shared memory. The
 * caller synchronises before it uses them again. */
DEVICE double block_sum(double v, double *sums)
{
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2)
        v += shuffle_xor_double(v, lanes);
    if (threadIdx.x % WARP == 0)
        sums[threadIdx.x / WARP] = v;
    __syncthreads();
    v = 0;
    if (threadIdx.x == 0)
        for (int w = 0; w < THREADS / WARP; w++)
            v += sums[w];
    return v;
}

DEVICE float shrink(const struct epilogue *e, float v)
{
    float s = e->nu * v, shrunk = fabsf(s) - e->threshold;
    if (shrunk <= 0 || (e->nonnegative && s < 0))
        return 0;
    return s < 0 ? -shrunk : shrunk;
}

/* The epilogue with the factors that are in device memory, if they are there. */
DEVICE struct epilogue resolve_scalars(const struct epilogue *e)
{
    struct epilogue resolved = *e;
    if (e->device_scalars) {
        resolved.alpha = e->device_scalars[0];
        resolved.nu = e->device_scalars[1];
        resolved.threshold = e->device_scalars[2];
    }
    return resolved;
}

/* Turns v[0..width), elements i .. of a convolution's result, into what is stored. bits: see kernel_epilogue. */
DEVICE void apply_epilogue(const struct epilogue *e, uint8_t *bits, size_t i, enum element type, int width, float *v)
{
    float other[VECTOR];
    unsigned byte = 0;
    for (int k = 0; k < width; k++)
        v[k] *= e->alpha;
    if (e->add) {
        load(e->add, i, type, width, other);
        for (int k = 0; k < width; k++)
            v[k] += e->beta * other[k];
    }
    if (e->kind == EPILOGUE_SHRINK) {
        for (int k = 0; k < width; k++) {
            v[k] = shrink(e, v[k]);
            byte |= (unsigned)(v[k] != 0) << k;
        }
        if (bits)
            bits[i / VECTOR] = (uint8_t)byte;
    } else if (e->kind == EPILOGUE_MASK && bits) {
        byte = bits[i / VECTOR];
        for (int k = 0; k < width; k++)
            v[k] = byte >> k & 1 ? e->nu * v[k] : 0;
    } else if (e->kind == EPILOGUE_MASK) {
        load(e->mask, i, type, width, other);
        for (int k = 0; k < width; k++)
            v[k] = other[k] != 0 ? e->nu * v[k] : 0;
    }
}

/* ---- columns: x is rows (N*H*W) of c channels; a thread keeps its `width` channels and walks along the rows ---- */

struct columns {
    size_t rows;
    int c;
    int across; /* threads next to each other in a row, a power of two up to a warp; a block has THREADS / across rows
                   of threads */
    int rows_per_thread; /* rows for each thread with DOWN */
};

/* DOWN: from the first row to the last; each block has consecutive rows. UP: from the last row to the first; the
 * blocks take turns. Passes that only sum go UP, because the rows that were written last are still in the cache.
 * Passes that write go DOWN and begin where the sums have just ended. */
enum walk { DOWN, UP };

/* The thread's first channel. A thread whose channel is c or beyond has no work, but must take part in barriers. */
DEVICE int column_of(const struct columns *s, int width)
{
    return (int)(blockIdx.y * s->across + threadIdx.x % s->across) * width;
}

/* A thread's rows are first_row, first_row + row_step, ... below end_row, counted in the direction of the walk;
 * row_at converts such a count to a row of x. */
DEVICE size_t first_row(const struct columns *s, enum walk walk)
{
    int thread_rows = THREADS / s->across;
    return (size_t)blockIdx.x * thread_rows * (walk == DOWN ? s->rows_per_thread : 1) + threadIdx.x / s->across;
}

DEVICE size_t row_step(const struct columns *s, enum walk walk)
{
    return (size_t)(walk == DOWN ? 1 : gridDim.x) * (THREADS / s->across);
}

DEVICE size_t end_row(const struct columns *s, enum walk walk)
{
    size_t end = (size_t)(blockIdx.x + 1) * (THREADS / s->across) * s->rows_per_thread;
    return walk == DOWN && end < s->rows ? end : s->rows;
}

DEVICE size_t row_at(const struct columns *s, enum walk walk, size_t row)
{
    return walk == DOWN ? row : s->rows - 1 - row;
}

/* How many rows to fetch at once: fewer floats, since they take twice the registers. */
DEVICE int fetch_depth(int rows, enum element type)
{
    return type == F32 && rows > 1 ? rows / 2 : rows;
}

/* Fetches the thread's rows row, row + row_step, ..., `count` of them. All must exist (see rows_there): conditional
 * loads would not be issued ahead. */
DEVICE void fetch_rows(const struct columns *s, enum walk walk, const void *from, size_t row, int count, int c,
                       enum element type, int width, struct packed *p)
{
    for (int r = 0; r < count; r++)
        p[r] = fetch(from, row_at(s, walk, row + r * row_step(s, walk)) * s->c + c, type, width);
}

DEVICE bool rows_there(const struct columns *s, enum walk walk, size_t row, int count)
{
    return row + (count - 1) * row_step(s, walk) < end_row(s, walk);
}

/* Sums v[0..width) over the threads of a column, in shared memory; the threads of the first row get the result. */
DEVICE void column_sum(const struct columns *s, int width, float *v, float *shared)
{
    int thread_row = threadIdx.x / s->across;
    __syncthreads();
    for (int k = 0; k < width; k++)
        shared[k * THREADS + threadIdx.x] = v[k];
    for (int thread_rows = THREADS / s->across / 2; thread_rows > 0; thread_rows /= 2) {
        __syncthreads();
        if (thread_row < thread_rows)
            for (int k = 0; k < width; k++)
                shared[k * THREADS + threadIdx.x] += shared[k * THREADS + threadIdx.x + thread_rows * s->across];
    }
    for (int k = 0; k < width; k++)
        v[k] = shared[k * THREADS + threadIdx.x];
}

/* ---- on the host ---- */

static inline int aligned16(const void *p)
{
    return (uintptr_t)p % 16 == 0; /* also true of NULL */
}

static inline size_t blocks_for(size_t threads)
{
    return (threads + THREADS - 1) / THREADS;
}

/* gridDim.y is at most 65535. */
static inline int image_blocks(int n)
{
    return n < 65535 ? n : 65535;
}

static inline int column_width(int c, int aligned)
{
    return c % VECTOR == 0 && aligned ? VECTOR : 1;
}

struct column_grid {
    struct columns s;
    int x, y; /* blocks */
};

/* Chooses a grid. depth: rows that a thread fetches at once; blocks: blocks that a multiprocessor runs at once. With
 * `sums` all blocks run at once, and each leaves a partial sum. Otherwise there are more blocks, so that the last
 * ones cost little, unless each would have too few rows. */
static inline struct column_grid column_grid(const struct queue *q, size_t rows, int c, int width, int depth,
                                             int blocks, bool sums)
{
    enum { MAX_ROWS = 16 };
    int groups = (c + width - 1) / width, across = 1;
    while (across < groups && across < WARP)
        across *= 2;
    int y = (groups + across - 1) / across, wave = q->multiprocessors * blocks;
    size_t thread_rows = THREADS / across, max_x = wave > y ? wave / y : 1,
           rows_per_thread = rows / (thread_rows * max_x);
    if (rows_per_thread > MAX_ROWS)
        rows_per_thread = MAX_ROWS;
    if (rows_per_thread < (size_t)depth)
        rows_per_thread = depth;
    size_t x = (rows + thread_rows * rows_per_thread - 1) / (thread_rows * rows_per_thread),
           parts = KERNELS_MAX_BLOCKS / y > 1 ? KERNELS_MAX_BLOCKS / y : 1;
    if (sums && x > max_x)
        x = max_x;
    if (sums && x > parts)
        x = parts;
    struct column_grid grid = { { rows, c, across, (int)rows_per_thread }, (int)x, y };
    return grid;
}

#endif
