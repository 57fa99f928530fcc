/* onednn.h - the only door to oneDNN: planned fp32 convolutions on NHWC tensors.
 * Weights are kept in the layout that the chosen implementation likes ("packed"); activations are plain
 * NHWC, so that no call reorders. Serves oneDNN 2.x and 3.x. */
#ifndef CSC_LAYERS_BACKEND_CPU_ONEDNN_H
#define CSC_LAYERS_BACKEND_CPU_ONEDNN_H

#include "layers/backend/backend.h"

enum dn_kind { DN_FORWARD, DN_ADJOINT, DN_GRADIENT };

struct dn_conv;

void dn_version(char text[32]); /* of the library that is loaded, not of the header */

enum status dn_conv_create(struct dn_conv **conv, enum dn_kind kind, const struct conv_shape *shape);
void dn_conv_destroy(struct dn_conv *conv); /* NULL is fine */
const char *dn_conv_implementation(const struct dn_conv *conv);
size_t dn_packed_bytes(const struct dn_conv *conv);
size_t dn_scratch_bytes(const struct dn_conv *conv); /* for run, pack and unpack */

/* Weights (D,k,k,C) to the packed layout; for DN_GRADIENT, packed gradients back to (D,k,k,C). */
enum status dn_pack(struct dn_conv *conv, const float *weights, void *packed, void *scratch);
enum status dn_unpack(struct dn_conv *conv, const void *packed, float *weights, void *scratch);

/* FORWARD: image -> code. ADJOINT: code -> image. Both through packed weights. */
enum status dn_run(struct dn_conv *conv, const float *in, const void *packed, float *out, void *scratch);
/* GRADIENT: packed = gradient of the weights (not accumulated). */
enum status dn_run_gradient(struct dn_conv *conv, const float *image, const float *code, void *packed, void *scratch);

#endif
