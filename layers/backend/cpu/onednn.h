/* onednn.h - the only door to oneDNN: planned fp32 convolutions on NHWC tensors.
 * Weights are kept in the layout that the chosen implementation likes ("packed"); activations are plain
 * NHWC, so that no call reorders. Serves oneDNN 2.x and 3.x. */
#ifndef CSC_LAYERS_BACKEND_CPU_ONEDNN_H
#define CSC_LAYERS_BACKEND_CPU_ONEDNN_H

#include "layers/backend/backend.h"

enum onednn_kind { ONEDNN_FORWARD, ONEDNN_ADJOINT, ONEDNN_GRADIENT };

struct onednn_conv;

void onednn_version(char text[32]); /* of the library that is loaded, not of the header */

enum status onednn_conv_create(struct onednn_conv **conv, enum onednn_kind kind, const struct conv_shape *shape);
void onednn_conv_destroy(struct onednn_conv *conv); /* NULL is fine */
const char *onednn_conv_implementation(const struct onednn_conv *conv);
size_t onednn_packed_bytes(const struct onednn_conv *conv);
size_t onednn_scratch_bytes(const struct onednn_conv *conv); /* for run, pack and unpack */

/* Weights (D,k,k,C) to the packed layout; for ONEDNN_GRADIENT, packed gradients back to (D,k,k,C). */
enum status onednn_pack(struct onednn_conv *conv, const float *weights, void *packed, void *scratch);
enum status onednn_unpack(struct onednn_conv *conv, const void *packed, float *weights, void *scratch);

/* FORWARD: image -> code. ADJOINT: code -> image. Both through packed weights. */
enum status onednn_run(struct onednn_conv *conv, const float *in, const void *packed, float *out, void *scratch);
/* GRADIENT: packed = gradient of the weights (not accumulated). */
enum status onednn_run_gradient(struct onednn_conv *conv, const float *image, const float *code, void *packed,
                                void *scratch);

#endif
