/* ref.h - the plain backend: every operation by its formula, summed in double. The others are checked against it. */
#ifndef CSC_LAYERS_BACKEND_REF_REF_H
#define CSC_LAYERS_BACKEND_REF_REF_H

#include "layers/backend/backend.h"

enum status ref_open(struct device **device, enum precision precision, int threads);
extern const struct backend ref_backend;

/* Operations of the table (backend.h): conv.c, then norm.c. */
enum status ref_conv_create(struct device *device, const struct conv_shape *shape, enum precision precision,
                            unsigned uses, struct conv **conv);
void ref_conv_destroy(struct conv *conv);
void ref_conv_assign_memory(struct conv *conv, struct arena *arena);
enum status ref_conv_load(struct conv *conv, const float *weights, void *scratch);
enum status ref_conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch);
enum status ref_conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch);
enum status ref_conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                              void *scratch);

void ref_norm_forward(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                      const float *beta, const void *add, void *y, float *saved, float *moments);
void ref_norm_inference(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                        const float *beta, const float *running, const void *add, void *y);
void ref_norm_backward(struct device *device, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                       const float *gamma, const float *saved, void *dadd, bool accumulate, float *dgamma,
                       float *dbeta);

#endif
