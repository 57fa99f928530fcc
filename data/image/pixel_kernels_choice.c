/* pixel_kernels_choice.c - finds which of the compiled sets of kernels this machine can run. */
#include "base/isa.h"
#include "data/image/pixel_kernels.h"

extern const struct pixel_kernels pixel_kernels_base;
#ifdef __x86_64__
extern const struct pixel_kernels pixel_kernels_v3, pixel_kernels_v4; /* AVX2 + FMA, AVX-512 */
#endif

int pixel_kernel_sets(const struct pixel_kernels *sets[PIXEL_KERNEL_SETS])
{
    int count = 0;
#ifdef __x86_64__
    if (isa_has_v4())
        sets[count++] = &pixel_kernels_v4;
    if (isa_has_v3())
        sets[count++] = &pixel_kernels_v3;
#endif
    sets[count++] = &pixel_kernels_base;
    return count;
}

const struct pixel_kernels *pixel_kernels(void)
{
    const struct pixel_kernels *sets[PIXEL_KERNEL_SETS];
    pixel_kernel_sets(sets);
    return sets[0];
}
