/* emulated_kernels.c - the CUDA backend's kernels, compiled for the host. */
#include "layers/cuda/elementwise.cu"
#include "layers/cuda/fold.cu"
#include "layers/cuda/head.cu"
#include "layers/cuda/image.cu"
#include "layers/cuda/norm.cu"
#include "layers/cuda/optimizer.cu"
#include "layers/cuda/pool.cu"
#include "layers/cuda/reduce.cu"
