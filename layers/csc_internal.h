/* csc_internal.h - what csc.c uses of csc_stacked.c. */
#ifndef CSC_LAYERS_CSC_INTERNAL_H
#define CSC_LAYERS_CSC_INTERNAL_H

#include "layers/csc.h"

/* Assigns memory to the stacks of those layers whose convolution prefers stacked terms. */
void csc_assign_stacks(struct csc *const *layers, int count, struct arena *arena);

/* Where such a layer's masked gradient g (N,H',W',D), the last of its codes, must lie for csc_backward_stacked. */
void *csc_stacked_gradient(const struct csc *csc);

/* As csc_backward, from that g. q: memory for an image, used where images are not stacked. */
enum status csc_backward_stacked(struct csc *csc, const void *x, float eta, void *dx, bool accumulate, float *dw,
                                 void *q, void *scratch);

#endif
