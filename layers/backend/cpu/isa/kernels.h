/* kernels.h - the table of everything that isa/ computes with one instruction set. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_KERNELS_H
#define CSC_LAYERS_BACKEND_CPU_ISA_KERNELS_H

#include "layers/backend/backend.h"
#include "layers/backend/cpu/isa/direct.h"
#include "layers/backend/cpu/isa/single_image.h"
#include "layers/backend/cpu/isa/winograd.h"

struct kernels {
    const char *name;
    /* out = f(alpha conv + beta add), see struct epilogue, for `count` values of fp32 conv. Indexed by the precision of
     * out, add and mask. conv may be out. */
    void (*epilogue[PRECISION_BF16 + 1])(const struct epilogue *e, const float *conv, void *out, size_t count);
    void (*widen)(const void *bf16, float *to, size_t count);                    /* bf16 to fp32 */
    void (*round_to_bf16)(const float *from, float *to, size_t count);           /* to the nearest bf16, kept as fp32 */
    void (*add_scaled)(float *to, float alpha, const float *from, size_t count); /* to += alpha from */
    const struct winograd_kernels *winograd;
    const struct single_image_kernels *single_image;
    const struct direct_kernels *few_channels;
    const struct direct_kernels *bf16; /* Optional. NULL: bf16 is emulated by fp32 convolutions of rounded operands. */
    /* Sets the slots of the backend's table that this set computes, all but convolutions. */
    void (*fill_table)(struct backend *table, enum precision precision);
};

extern const struct kernels kernels_base; /* the compiler's default for this architecture */
#if defined(__x86_64__)
extern const struct kernels kernels_v3; /* x86-64-v3: AVX2, FMA */
extern const struct kernels kernels_v4; /* x86-64-v4: AVX-512 */
#ifdef CSC_HAVE_BF16
extern const struct kernels kernels_bf16; /* AVX-512 with bf16 */
extern const struct kernels kernels_amx;  /* the same with AMX */
#endif
#endif

#endif
