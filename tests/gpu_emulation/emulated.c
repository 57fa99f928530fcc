/* emulated.c - opens the emulated device: the CUDA backend over the fake libraries of this folder, with its kernels
 * run on the host. */
#include "tests/gpu_emulation/emulated.h"

#include <string.h>

#include "layers/backend/device.h"
#ifdef CSC_HAVE_EMULATION
#include "layers/backend/cuda/cuda.h"
#endif

const char *any_device_missing(const char *kind)
{
    return strncmp(kind, "cuda", 4) == 0 && device_check_cuda(0) != STATUS_OK ? status_message() : NULL;
}

enum status any_device_open(struct device **device, const char *kind, enum precision precision, int threads)
{
#ifdef CSC_HAVE_EMULATION
    if (strcmp(kind, "emulated") == 0)
        return cuda_open(device, 0, precision, threads);
#endif
    return device_open(device, kind, precision, threads);
}
