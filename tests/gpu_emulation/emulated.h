/* emulated.h - a device whose operations are the CUDA backend's kernels, run on the host. */
#ifndef CSC_TESTS_GPU_EMULATION_EMULATED_H
#define CSC_TESTS_GPU_EMULATION_EMULATED_H

#include "layers/backend/backend.h"

/* NULL, or why a test of this kind cannot run here: print it and exit 77. */
const char *any_device_missing(const char *kind);
/* As device_open, and "emulated" where the build has it. */
enum status any_device_open(struct device **device, const char *kind, enum precision precision, int threads);

#endif
