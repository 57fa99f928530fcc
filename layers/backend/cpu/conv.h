/* conv.h - the CPU backend's convolutions, in builds with oneDNN. */
#ifndef CSC_LAYERS_BACKEND_CPU_CONV_H
#define CSC_LAYERS_BACKEND_CPU_CONV_H

#include "layers/backend/backend.h"

/* Sets the conv_* slots of the table of a struct cpu_device. */
void cpu_conv_fill_table(struct backend *table);

/* For tests: the name of what computes one use of a convolution, an algorithm's or "oneDNN". NULL if it is not planned
 * for that use. */
const char *cpu_conv_algorithm(struct conv *conv, enum conv_use use);

#endif
