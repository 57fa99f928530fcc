/* algorithms.h - the algorithms for convolutions that are compiled with one instruction set, each in the file of its
 * name. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_ALGORITHMS_H
#define CSC_LAYERS_BACKEND_CPU_ISA_ALGORITHMS_H

#include "base/isa.h"
#include "layers/backend/cpu/conv_algorithm.h"

/* 3x3 and stride 1 in fp32 by Winograd's F(4x4, 3x3), with a quarter of the multiplications: Lavin and Gray, "Fast
 * Algorithms for Convolutional Neural Networks", CVPR 2016. The relative error is about 1e-6, twice that of a direct
 * sum. The bits do not depend on the number of threads. */
extern const struct conv_algorithm ISA_NAME(winograd);

/* One fp32 image that is far smaller than its weights, as power iterations of deep layers have. The weights are read
 * unpacked, once a call: packing them would cost more than the convolution. */
extern const struct conv_algorithm ISA_NAME(single_image);

/* The adjoint towards fp32 images of few channels, as a network's stem has. The bits do not depend on the number of
 * threads. */
extern const struct conv_algorithm ISA_NAME(few_channels);

/* Any convolution of bf16 activations, with fp32 sums, on processors that multiply bf16. The epilogue is applied to the
 * sums before they are rounded. The gradient's bits depend on the number of threads. */
extern const struct conv_algorithm ISA_NAME(bf16);

#endif
