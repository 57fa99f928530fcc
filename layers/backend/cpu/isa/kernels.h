/* kernels.h - the table of everything that isa/ computes with one instruction set. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_KERNELS_H
#define CSC_LAYERS_BACKEND_CPU_ISA_KERNELS_H

#include "layers/backend/cpu/conv_algorithm.h"

struct kernels {
    const char *name;
    /* out = f(alpha conv + beta add), see struct epilogue, for `count` values of fp32 conv. Indexed by the precision of
     * out, add and mask. conv may be out. */
    void (*epilogue[PRECISION_BF16 + 1])(const struct epilogue *e, const float *conv, void *out, size_t count);
    void (*widen)(const void *bf16, float *to, size_t count);                    /* bf16 to fp32 */
    void (*round_to_bf16)(const float *from, float *to, size_t count);           /* to the nearest bf16, kept as fp32 */
    void (*add_scaled)(float *to, float alpha, const float *from, size_t count); /* to += alpha from */
    /* By the precision of activations: the algorithms for convolutions, in the order in which they are tried, then
     * NULL. A set without bf16 instructions has none for bf16, which is then emulated in fp32. */
    const struct conv_algorithm *algorithms[PRECISION_BF16 + 1][4];
    /* Sets the slots of the backend's table that this set computes, all but convolutions. */
    void (*fill_table)(struct backend *table, enum precision precision);
};

extern const struct kernels kernels_base; /* the compiler's default for this architecture */
extern const struct kernels kernels_v3;   /* x86-64-v3: AVX2, FMA */
extern const struct kernels kernels_v4;   /* x86-64-v4: AVX-512 */
extern const struct kernels kernels_bf16; /* AVX-512 with bf16; if CSC_HAVE_BF16, as is the next one */
extern const struct kernels kernels_amx;  /* the same with AMX */

#endif
