/* bf16.h - convolutions of bf16 activations with fp32 sums, on processors that multiply bf16. They take any kernel,
 * stride, padding and size. The epilogue is applied to the fp32 sums, before they are rounded. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_BF16_H
#define CSC_LAYERS_BACKEND_CPU_ISA_BF16_H

#include "layers/backend/cpu/isa/direct.h"

extern const struct direct_kernels bf16_bf16, bf16_amx; /* by AVX-512's bf16 instructions, and by AMX */

#endif
