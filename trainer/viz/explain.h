/* explain.h - reconstructs images from the output of any layer of a network. The network is inverted layer by layer,
 * down to the pixels:
 *   CSC-layer, convolution   x = a A z, its own adjoint. With the scale a, one per image, A z of the forward pass fits
 *                            the layer's input best; a few steps of coding do not restore amplitudes.
 *   batch norm               x = (y - add - beta) sqrt(variance + eps) / gamma + mean, where add is the shortcut's
 *                            output in the forward pass. A channel that gamma has switched off becomes its mean.
 *   ReLU                     identity: what it set to zero is lost
 *   max pool                 the minimum of the maxima of the windows that contain a pixel
 * Nothing else of the forward pass is used, so a reconstruction shows what the layer has kept. It runs on the CPU in
 * fp32, whatever device the network uses. */
#ifndef CSC_TRAINER_VIZ_EXPLAIN_H
#define CSC_TRAINER_VIZ_EXPLAIN_H

#include "layers/net.h"

struct explain;

/* Reconstructs the first n images of a batch. The net must be created with NET_TRAINING, because an inference net does
 * not keep its activations; net and model must outlive *explain. */
enum status explain_create(struct explain **explain, struct net *net, const struct model *model, int n, int threads);
void explain_destroy(struct explain *explain); /* accepts NULL */

/* The index of the convolution or CSC-layer `name`; -1 if there is none. */
int explain_node(const struct model *model, const char *name);

/* The first convolution and the last one of each stage. Returns their number. */
enum { EXPLAIN_MAX_DEFAULT_NODES = 5 };
int explain_default_nodes(const struct model *model, int nodes[EXPLAIN_MAX_DEFAULT_NODES]);

/* After net_infer: reconstructs from the output of `node`. pixels is (n,S,S,3), normalised like the network's input. */
enum status explain_pixels(struct explain *explain, int node, float *pixels);

/* The same for a CSC-layer whose input is the image, with a = 1: A z without scaling. */
enum status explain_unscaled(struct explain *explain, int node, float *pixels);

#endif
