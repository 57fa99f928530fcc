/* bf16.h - convolutions of bf16 activations, summed in fp32, on processors that multiply bf16: any kernel, stride,
 * padding and size. Each pixel's sum starts and ends in registers; the epilogue follows before it is stored. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_BF16_H
#define CSC_LAYERS_BACKEND_CPU_ISA_BF16_H

#include "layers/backend/cpu/isa/direct.h"

extern const struct direct_kernels bf16_bf16, bf16_amx; /* AVX-512's bf16, AMX */

#endif
