/* few_channels.h - the adjoint of fp32 convolutions whose images have few channels, as a network's stem has. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_FEW_CHANNELS_H
#define CSC_LAYERS_BACKEND_CPU_ISA_FEW_CHANNELS_H

#include "layers/backend/cpu/isa/direct.h"

/* Fits CONV_ADJOINT only. The bits do not depend on the number of threads. */
extern const struct direct_kernels few_channels_base;
#if defined(__x86_64__)
extern const struct direct_kernels few_channels_v3, few_channels_v4, few_channels_bf16, few_channels_amx;
#endif

#endif
