/* onednn.h - fp32 convolutions by oneDNN 2.x or 3.x; the only door to that library.
 * Activations are plain NHWC. Weights are kept "packed", in the layout that the chosen implementation wants. The
 * functions share one engine and one stream and are called from one thread. A STATUS_BUG names the call of oneDNN that
 * failed. */
#ifndef CSC_LAYERS_BACKEND_CPU_ONEDNN_H
#define CSC_LAYERS_BACKEND_CPU_ONEDNN_H

#include "layers/backend/backend.h"

struct onednn_conv;

void onednn_version(char text[32]); /* "oneDNN 3.2.0": of the loaded library, not of the header */

/* Plans a convolution for one use: CONV_FORWARD, CONV_ADJOINT or CONV_GRADIENT. STATUS_NOMEM or STATUS_BUG. */
enum status onednn_conv_create(struct onednn_conv **conv, enum conv_use use, const struct conv_shape *shape);
void onednn_conv_destroy(struct onednn_conv *conv); /* NULL is fine */
size_t onednn_packed_bytes(const struct onednn_conv *conv);
size_t onednn_scratch_bytes(const struct onednn_conv *conv); /* for the functions below */

/* Packs weights (D,k,k,C), for CONV_FORWARD and CONV_ADJOINT. */
enum status onednn_pack(struct onednn_conv *conv, const float *weights, void *packed, void *scratch);
/* Packed gradients to (D,k,k,C), for CONV_GRADIENT. */
enum status onednn_unpack(struct onednn_conv *conv, const void *packed, float *weights);

/* CONV_FORWARD: image (N,H,W,C) to code (N,H',W',D). CONV_ADJOINT: code to image. */
enum status onednn_run(struct onednn_conv *conv, const float *in, const void *packed, float *out, void *scratch);
/* Writes the packed gradient of the weights; does not add to it. */
enum status onednn_run_gradient(struct onednn_conv *conv, const float *image, const float *code, void *packed,
                                void *scratch);

#endif
