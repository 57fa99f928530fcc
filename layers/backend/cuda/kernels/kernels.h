/* kernels.h - the CUDA backend's kernels, as functions that queue them on q->stream. Unless said otherwise pointers
 * are device memory and `void *` operands have the type q->type. Each kernel reads its memory once and sums in a
 * fixed order, so that results are the same in every run. */
#ifndef CSC_LAYERS_BACKEND_CUDA_KERNELS_KERNELS_H
#define CSC_LAYERS_BACKEND_CUDA_KERNELS_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/backend/backend.h"

enum element { F32, BF16 }; /* of activations */

/* Where kernels are queued, and memory for their partial sums. Queues that run at the same time need partials of
 * their own. */
struct queue {
    void *stream;        /* cudaStream_t */
    enum element type;   /* of `void *` operands */
    void *partials;      /* KERNELS_PARTIAL_BYTES of device memory */
    int multiprocessors; /* of the device */
};
#define KERNELS_MAX_BLOCKS   1024
#define KERNELS_MAX_CHANNELS 65536 /* of a batch norm: its factors lie behind the partial sums */
#define KERNELS_PARTIAL_BYTES \
    ((size_t)KERNELS_MAX_BLOCKS * 2 * 256 * sizeof(float) + KERNELS_MAX_CHANNELS * 3 * sizeof(float))

/* Returns a cudaError_t: cudaSuccess if this program has code for the current GPU. */
int kernels_check_code(void);

/* Convert between floats and activations. */
void kernel_to_activation(const struct queue *q, const float *from, void *to, size_t count);
void kernel_from_activation(const struct queue *q, const void *from, float *to, size_t count);

/* out (rows, c) = f(alpha conv + beta add), see struct epilogue. result: the type of conv. bits (may be NULL): one
 * bit an element, which SHRINK writes (1: the code is not 0) and MASK reads instead of epilogue->mask. With
 * `statistics` the sums that kernel_norm_forward takes are left in q->partials; returns the number of their parts,
 * or 0 without them. */
int kernel_epilogue(const struct queue *q, const struct epilogue *epilogue, enum element result, const void *conv,
                    void *out, size_t rows, int c, uint8_t *bits, bool statistics);
/* out = nu in where the mask is not 0. bits (may be NULL): the mask as bits. nu_device (may be NULL): nu in device
 * memory, read instead of nu. */
void kernel_mask(const struct queue *q, const void *in, const void *mask, const uint8_t *bits, float nu,
                 const float *nu_device, void *out, size_t count);
/* out = a x + b y. y is not read if b is 0. */
void kernel_axpby_act(const struct queue *q, float a, const void *x, float b, const void *y, void *out, size_t count);
void kernel_axpby_f32(const struct queue *q, float a, const float *x, float b, const float *y, float *out,
                      size_t count);

/* dw += the sum over up to CONV_TERMS terms of alpha times a gradient. dw has `weights` floats; the gradients have
 * `type` and begin `stride` bytes apart. Of the terms only alpha (or its device copy) is read. */
void kernel_add_gradients(const struct queue *q, enum element type, const void *gradients, size_t stride,
                          const struct gradient_term *terms, int count, float *dw, size_t weights);

/* to[0..2] = a, b, c, for epilogues that read their factors from device memory. */
void kernel_write_scalars(const struct queue *q, float *to, float a, float b, float c);

/* *result = sum of x y, in double. Both have `type`. */
void kernel_dot(const struct queue *q, enum element type, const void *x, const void *y, size_t count, double *result);

/* The end of a power iteration, with code (codes floats) = A^T from and image (pixels floats) = A code: lambda_max =
 * |code|^2 / |from|^2, v = image / |image|. Everything stays on the device. from may be v. */
void kernel_power(const struct queue *q, const float *code, size_t codes, const float *from, const float *image,
                  size_t pixels, float *v, double *lambda_max);
/* scalars (count, STEP_SCALARS): those of eta = 0.9 / lambda_max for each layer, bit for bit as csc_step_scalars
 * computes them. */
void kernel_step_scalars(const struct queue *q, const double *lambda_max, int count, float lambda, float mu,
                         float *scalars);

/* Batch norm, see struct backend. parts: what kernel_epilogue returned; 0: the sums are computed here. */
void kernel_norm_forward(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, const void *add, void *y, float *saved, float *moments, int parts);
void kernel_norm_inference(const struct queue *q, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y);
/* more: added to dy; may be NULL. */
void kernel_norm_backward(const struct queue *q, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                          const void *more, const float *gamma, const float *saved, void *dadd, bool accumulate,
                          float *dgamma, float *dbeta);

/* See norm_max_forward and norm_max_backward of struct backend. parts: as for kernel_norm_forward. */
void kernel_norm_max_forward(const struct queue *q, const struct norm_shape *norm, const struct pool_shape *pool,
                             const void *x, const float *gamma, const float *beta, void *y, float *saved,
                             float *moments, uint8_t *argmax_in_window, void *argmax_value, int parts);
void kernel_norm_max_backward(const struct queue *q, const struct norm_shape *norm, const struct pool_shape *pool,
                              const void *x, const uint8_t *argmax_in_window, const void *argmax_value, const void *dy,
                              void *dx, const float *gamma, const float *saved, float *dgamma, float *dbeta);

void kernel_max_forward(const struct queue *q, const struct pool_shape *shape, const void *x, void *y, int32_t *argmax);
void kernel_max_backward(const struct queue *q, const struct pool_shape *shape, const void *dy, const int32_t *argmax,
                         void *dx, bool accumulate);
void kernel_mean_forward(const struct queue *q, int n, int hw, int c, const void *x, float *y);
void kernel_mean_backward(const struct queue *q, int n, int hw, int c, const float *dy, void *dx);

void kernel_linear_forward(const struct queue *q, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y);
void kernel_linear_input_gradient(const struct queue *q, int n, int c, int k, const float *w, const float *dy,
                                  float *dx);
void kernel_linear_weight_gradient(const struct queue *q, int n, int c, int k, const float *x, const float *dy,
                                   float *dw);
void kernel_broadcast_bias(const struct queue *q, int n, int k, const float *b, float *y);
void kernel_bias_gradient(const struct queue *q, int n, int k, const float *dy, float *db);
void kernel_cross_entropy(const struct queue *q, int n, int k, const float *logits, const int32_t *labels,
                          float smoothing, float scale, float *losses, float *mean, float *dlogits);

void kernel_normalize_rows(const struct queue *q, float *w, int rows, size_t length);

/* SGD of all tensors in one launch, one block a row. rows: device memory. */
#define KERNELS_MAX_SHARED_ATOM 4608 /* atoms up to this length are kept in shared memory */
void kernel_sgd(const struct queue *q, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count);

/* Folding turns a convolution whose channels are not a multiple of 8 into one with stride 1 and no padding. Blocks
 * of s x s pixels (s the stride) become the channels of one pixel:
 *     image (N,H,W,C) -> folded (N,H",W",C")    weights (D,k,k,C) -> (D,k",k",C")
 *     k" = ceil(k / s)   H" = H' - 1 + k"   W" = W' - 1 + k"   C" = s s C, rounded up to 8 with zeros
 * With k_by_1, which suits few channels, a pixel's channels are s lines of k" s pixels, everything that the kernel
 * covers there, and weights become (D,k",1,C"):
 *     W" = W'   C" = s k" s C, rounded up */
struct fold {
    struct conv_shape shape;  /* of the convolution as the caller sees it */
    struct conv_shape folded; /* stride 1, pad 0; with k_by_1 the kernel is k" x 1 */
    bool k_by_1;
    int span; /* pixels in a line */
};
struct fold kernel_fold_shape(const struct conv_shape *shape);
size_t kernel_fold_weight_count(const struct fold *fold);
void kernel_fold_image(const struct queue *q, const struct fold *fold, const void *image, void *folded);
/* image = f(alpha unfolded + beta add): the adjoint of folding, followed by conv_adjoint's epilogue. */
void kernel_unfold_image(const struct queue *q, const struct fold *fold, enum element result, const void *folded,
                         const struct epilogue *epilogue, void *image);
/* Folds weights (floats) to activations. fold->shape may be a shape that is not folded. */
void kernel_fold_weights(const struct queue *q, const struct fold *fold, const float *weights, void *folded);
/* dw += alpha unfolded, from gradients of `type`. alpha_device (may be NULL): alpha in device memory, read instead. */
void kernel_unfold_gradient(const struct queue *q, const struct fold *fold, enum element type, const void *folded,
                            float alpha, const float *alpha_device, float *dw);

/* Crops `count` images, resizes them to size x size with an antialiased triangle filter as Pillow's BILINEAR does,
 * mirrors and normalises them: out (count, size, size, 3) activations. raw: device memory, see upload_pixels of
 * struct backend. */
void kernel_prepare_images(const struct queue *q, const void *raw, int count, int size, const struct pixel_scale *scale,
                           void *out);

#ifdef __cplusplus
}
#endif

#endif
