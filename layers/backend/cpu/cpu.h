/* cpu.h - the CPU backend: convolutions by oneDNN or our own kernels, everything else by OpenMP and vector
 * instructions. The files in isa/ are compiled once per instruction set; the set is chosen when a device is opened. */
#ifndef CSC_LAYERS_BACKEND_CPU_CPU_H
#define CSC_LAYERS_BACKEND_CPU_CPU_H

#include "layers/backend/backend.h"
#include "layers/backend/cpu/isa/kernels.h"

/* Opens a device with the best kernel set of this machine. STATUS_USAGE for tf32, and for bf16 if the processor or this
 * build has no bf16 instructions. */
enum status cpu_open(struct device **device, enum precision precision, int threads);

/* Lists the kernel sets that this machine can run, best first, and returns how many they are (at least 1). */
enum { CPU_KERNEL_SETS = 5 };
int cpu_kernel_sets(const struct kernels *sets[CPU_KERNEL_SETS]);

/* For tests: opens a device with a given kernel set. Without bf16 instructions bf16 is emulated, slowly: operands are
 * rounded to bf16 and convolved in fp32. */
enum status cpu_open_with(struct device **device, enum precision precision, int threads, const struct kernels *kernels);

#endif
