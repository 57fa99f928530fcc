/* nvrtc.h - whether cuDNN will find NVRTC, CUDA's run-time compiler, with which it compiles fused graphs. */
#ifndef CSC_LAYERS_BACKEND_CUDA_NVRTC_H
#define CSC_LAYERS_BACKEND_CUDA_NVRTC_H

#include <stdbool.h>

/* Whether cuDNN will find NVRTC; name: the file that it looks for. Without NVRTC cuDNN has no plans for fused graphs,
 * and no error tells why. */
bool nvrtc_found(char name[32]);
/* The same for a library of any name. */
bool library_found(const char *library);

#endif
