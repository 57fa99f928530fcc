/* emulated.h - opens any device, also "emulated": the CUDA backend on the host, see README.md. */
#ifndef CSC_TESTS_GPU_EMULATION_EMULATED_H
#define CSC_TESTS_GPU_EMULATION_EMULATED_H

#include "layers/backend/backend.h"

/* NULL if a test of this kind of device can run here, else the reason: print it and exit with 77. */
const char *any_device_missing(const char *kind);
/* As device_open, but kind may also be "emulated" in builds that have it. */
enum status any_device_open(struct device **device, const char *kind, enum precision precision, int threads);

#endif
