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

/* Allocates what cpu_partials returns. STATUS_NOMEM. */
enum status cpu_plan_channels(struct device *device, int channels);

/* Memory for CPU_PARTIALS * channels doubles per thread. The device owns it, and the next call may move it. If so many
 * channels were not planned and memory runs out, the process ends with an error (71). */
double *cpu_partials(struct device *device, int channels);

#endif
