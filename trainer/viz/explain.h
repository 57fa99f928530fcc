/* explain.h - from any layer of a network back to pixels.
 * The codes or outputs of a layer go down the network, each layer undone in turn:
 *   CSC-layer, convolution   x = a A z, its own adjoint; a is the one number per image by which A z of the forward pass
 * fits its input best, because a few steps of coding do not restore amplitudes batch norm               x = (y - add -
 * beta) sqrt(variance + eps) / gamma + mean, `add` being what a shortcut brought in the forward pass; a channel that
 * gamma has switched off comes back as its mean ReLU                     as it is: what it cut off is lost max pool the
 * least of the maxima of the windows that a pixel lies in Nothing else of the forward pass is used, so what a picture
 * lacks is what the layer did not keep. Runs on the CPU in fp32, whatever the network runs on. */
#ifndef CSC_TRAINER_VIZ_EXPLAIN_H
#define CSC_TRAINER_VIZ_EXPLAIN_H

#include "layers/net.h"

struct explain;

/* For the first n images of a training net (an inference net does not keep its activations), which must outlive it. */
enum status explain_create(struct explain **explain, struct net *net, const struct model *model, int n, int threads);
void explain_destroy(struct explain *explain); /* NULL is fine */

/* Index of the node of the convolution or CSC-layer `name`, -1 if there is none. */
int explain_node(const struct model *model, const char *name);

/* The first convolution and the last of each stage; how many. */
enum { EXPLAIN_MAX_DEFAULT_NODES = 5 };
int explain_default_nodes(const struct model *model, int nodes[EXPLAIN_MAX_DEFAULT_NODES]);

/* After net_infer: from the output of `node` to pixels (n,S,S,3), normalised as the network's input. */
enum status explain_pixels(struct explain *explain, int node, float *pixels);

/* The same for a CSC-layer that sees the image, with a = 1: A z as it is. */
enum status explain_unscaled(struct explain *explain, int node, float *pixels);

#endif
