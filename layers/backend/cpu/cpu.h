/* cpu.h - the CPU backend: oneDNN for convolutions, OpenMP and SIMD for the rest. */
#ifndef CSC_LAYERS_BACKEND_CPU_CPU_H
#define CSC_LAYERS_BACKEND_CPU_CPU_H

#include "layers/backend/cpu/isa/bf16.h"
#include "layers/backend/cpu/isa/few_channels.h"
#include "layers/backend/cpu/isa/single_image.h"
#include "layers/backend/cpu/isa/winograd.h"

/* STATUS_USAGE for bf16 on a machine without instructions for it, and for tf32. */
enum status cpu_open(struct device **device, enum precision precision, int threads);

struct cpu_device {
    struct device base;
    double *partials; /* per-thread partial sums: CPU_PARTIALS * channels * threads */
    size_t partials_count;
    const struct kernels *kernels;
    struct backend table;
};

#define CPU_PARTIALS 4 /* sums, products, scale, shift */

/* At least CPU_PARTIALS * channels doubles per thread; grows only when a layer is planned. */
double *cpu_partials(struct device *device, int channels);

/* What kernels.c offers; it is compiled once per instruction set. */
struct kernels {
    const char *name;
    /* out = f(alpha conv + beta add), see struct epilogue; conv may be out. By the precision of out, add, mask. */
    void (*epilogue[PRECISION_BF16 + 1])(const struct epilogue *e, const float *conv, void *out, size_t count);
    void (*widen)(const void *bf16, float *to, size_t count);
    void (*round_to_bf16)(const float *from, float *to, size_t count);           /* to the nearest bf16 */
    void (*add_scaled)(float *to, float alpha, const float *from, size_t count); /* to += alpha from */
    const struct winograd_kernels *winograd;
    const struct single_image_kernels *single_image;
    const struct direct_kernels *few_channels;
    const struct direct_kernels *bf16; /* NULL: fp32 convolutions of rounded operands serve */
    void (*fill_table)(struct backend *table, enum precision precision);
};
extern const struct kernels kernels_base;
#if defined(__x86_64__)
extern const struct kernels kernels_v3, kernels_v4; /* AVX2 + FMA, AVX-512 */
#ifdef CSC_HAVE_BF16
extern const struct kernels kernels_bf16, kernels_amx; /* AVX-512 with bf16, and with AMX */
#endif
#endif

/* The kernel sets that this machine can run, best first; cpu_open takes sets[0]. */
enum { CPU_KERNEL_SETS = 5 };
int cpu_kernel_sets(const struct kernels *sets[CPU_KERNEL_SETS]);
/* For tests: bf16 works on any machine, but only those with the instructions are fast. */
enum status cpu_open_with(struct device **device, enum precision precision, int threads, const struct kernels *kernels);

#endif
