/* device.h - the CPU device's own data. */
#ifndef CSC_LAYERS_BACKEND_CPU_DEVICE_H
#define CSC_LAYERS_BACKEND_CPU_DEVICE_H

#include "layers/backend/backend.h"

struct kernels;

struct cpu_device {
    struct device base;
    double *partials; /* what threads have summed: (threads, CPU_PARTIALS, channels) */
    size_t partials_count;
    const struct kernels *kernels;
    struct backend table;
};

#define CPU_PARTIALS 4 /* values per thread and channel: sum, sum of products, scale, shift */

/* Memory for CPU_PARTIALS * channels doubles per thread. The device owns it, and the next call may move it. It grows
 * only when a layer with more channels is planned. Ends the process if memory runs out. */
double *cpu_partials(struct device *device, int channels);

#endif
