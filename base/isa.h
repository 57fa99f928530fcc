/* isa.h - names of what is compiled once per instruction set.
 * Such a file lies in a folder isa/ or ends in _isa.c, and is compiled with -DISA=base, v3, v4, bf16 or amx: with v3,
 * ISA_NAME(kernels) is kernels_v3 and ISA_TEXT is "v3". The best of them is chosen at run time. */
#ifndef CSC_BASE_ISA_H
#define CSC_BASE_ISA_H

#include <stdbool.h>

#define ISA_PASTE_(name, isa) name##_##isa
#define ISA_PASTE(name, isa)  ISA_PASTE_(name, isa)
#define ISA_NAME(name)        ISA_PASTE(name, ISA)
#define ISA_QUOTE_(isa)       #isa
#define ISA_QUOTE(isa)        ISA_QUOTE_(isa)
#define ISA_TEXT              ISA_QUOTE(ISA)

#ifdef __x86_64__
/* Whether this processor is an x86-64-v3 (AVX2, FMA), and an x86-64-v4 (AVX-512). */
static inline bool isa_has_v3(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static inline bool isa_has_v4(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif

#endif
