/* device.c - the CPU device's own data. */
#include "layers/backend/cpu/device.h"

#include <stdlib.h>

#include "base/integer.h"
#include "base/log.h"

enum status cpu_plan_channels(struct device *device, int channels)
{
    enum status status = STATUS_OK;
    struct cpu_device *cpu = (struct cpu_device *)device;
    size_t count = (size_t)CPU_PARTIALS * channels * device->threads;
    if (count <= cpu->partials_count)
        return STATUS_OK;
    double *partials = aligned_alloc(ARENA_ALIGN, round_up(count * sizeof(double), ARENA_ALIGN));
    if (!partials)
        FAIL(STATUS_NOMEM, "out of memory for the sums of %d channels", channels);
    free(cpu->partials);
    cpu->partials = partials;
    cpu->partials_count = count;
fail:
    return status;
}

double *cpu_partials(struct device *device, int channels)
{
    enum status status = cpu_plan_channels(device, channels);
    if (status != STATUS_OK) { /* of a layer that was planned it is not */
        log_failure();
        exit(status);
    }
    return ((struct cpu_device *)device)->partials;
}
