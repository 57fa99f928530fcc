/* device.c - the CPU device's own data. */
#include "layers/backend/cpu/device.h"

#include <stdlib.h>

double *cpu_partials(struct device *device, int channels)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    size_t count = (size_t)CPU_PARTIALS * channels * device->threads;
    if (count > cpu->partials_count) {
        free(cpu->partials);
        cpu->partials = aligned_alloc(ARENA_ALIGN,
                                      (count * sizeof(double) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN);
        if (!cpu->partials)
            abort(); /* a few kilobytes, while a layer is planned */
        cpu->partials_count = count;
    }
    return cpu->partials;
}
