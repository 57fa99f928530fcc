/* device.c - opens the devices that this build has. */
#include "layers/backend/device.h"

#include <stdio.h>
#include <string.h>

#include "layers/backend/cpu/cpu.h"
#ifdef CSC_HAVE_CUDA
#include "layers/backend/cuda/cuda.h"
#endif
#include "layers/backend/ref/ref.h"

#ifdef CSC_HAVE_CUDA
#define BACKENDS "cpu, cuda"
#else
#define BACKENDS "cpu"
#endif

enum status device_open(struct device **device, const char *kind, enum precision precision, int threads)
{
    enum status status = STATUS_OK;
#ifdef CSC_HAVE_CUDA
    int rank = 0, length = 0;
#endif
    if (threads > DEVICE_MAX_THREADS)
        FAIL(STATUS_USAGE, "%d threads: at most %d can be used", threads, DEVICE_MAX_THREADS);
    if (strcmp(kind, "ref") == 0)
        TRY(ref_open(device, precision, threads));
    else if (strcmp(kind, "cpu") == 0)
        TRY(cpu_open(device, precision, threads));
#ifdef CSC_HAVE_CUDA
    else if (sscanf(kind, "cuda:%d%n", &rank, &length) == 1 && !kind[length])
        TRY(cuda_open(device, rank, precision, threads));
    else if (strcmp(kind, "cuda") == 0)
        TRY(cuda_open(device, 0, precision, threads));
#endif
    else
        FAIL(STATUS_USAGE, "device.kind: this build has no backend '%s' (it has: %s)", kind, BACKENDS);
fail:
    return status;
}

bool device_has_cuda(void)
{
#ifdef CSC_HAVE_CUDA
    return true;
#else
    return false;
#endif
}

enum status device_check_cuda(int rank)
{
#ifdef CSC_HAVE_CUDA
    return cuda_check(rank);
#else
    (void)rank;
    return status_report(STATUS_USAGE, __FILE__, __LINE__, "this build has no CUDA");
#endif
}

enum status device_plan_files(const char *plans, const char *timings)
{
#ifdef CSC_HAVE_CUDA
    return cuda_plan_files(plans, timings);
#else
    (void)plans;
    (void)timings;
    return status_report(STATUS_USAGE, __FILE__, __LINE__,
                         "this build has no CUDA, and so no plans of convolutions to keep");
#endif
}

void device_close(struct device *device)
{
    if (device)
        device->ops->close(device);
}
