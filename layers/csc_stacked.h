/* csc_stacked.h - the parts of csc.c for a backend that likes a weight gradient's terms stacked. */
#ifndef CSC_LAYERS_CSC_STACKED_H
#define CSC_LAYERS_CSC_STACKED_H

#include "layers/csc.h"

/* Gives those of the layers whose convolution stacks their memory. */
void csc_assign_stacks(struct csc *const *layers, int count, struct arena *arena);

/* As csc_backward; q: memory for an image, used where images are not stacked. */
enum status csc_backward_stacked(struct csc *csc, const void *x, float eta, const void *z, const void *dz, bool masked,
                                 void *dx, bool accumulate, float *dw, void *q, void *scratch);

#endif
