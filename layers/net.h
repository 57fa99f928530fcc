/* net.h - a model planned for batches of one size: forward, loss, backward. */
#ifndef CSC_LAYERS_NET_H
#define CSC_LAYERS_NET_H

#include "layers/model.h"

struct net;

/* The vector that a backward pass fills and ranks average: a head of [mean loss, 15 spare, moments of batch
 * norm (running_count, padded)], then the gradient of every parameter as in the model's flat buffer. */
struct reduce_layout {
    size_t gradients; /* floats before the gradients */
    size_t count;     /* floats in all */
};
struct reduce_layout net_reduce_layout(const struct model *model);
#define REDUCE_BN_STATISTICS 16 /* floats: where the moments begin */

enum net_use {
    NET_INFERENCE,
    NET_TRAINING,       /* net_forward and net_backward */
    NET_INPUT_GRADIENT, /* net_infer and net_backward_input */
};

/* Plans for n images; net_bytes tells what net_allocate will take. */
enum status net_create(struct net **net, struct model *model, int n, enum net_use use);
enum status net_allocate(struct net *net);
size_t net_bytes(const struct net *net);
void net_destroy(struct net *net); /* NULL is fine */

size_t net_image_floats(const struct net *net); /* of one image: S * S * 3 */

/* images: host, (count,S,S,3); rows beyond count repeat what was there before and are ignored. */
enum status net_upload(struct net *net, const float *images, const int32_t *labels, int count);

/* The same of images as bytes, on a device that takes them: see struct backend's upload_pixels. */
enum status net_upload_pixels(struct net *net, const void *raw, size_t bytes, const struct pixel_scale *scale,
                              const int32_t *labels, int count);

/* With running statistics and the present step sizes. diagnostics: (csc_count) of this batch, or NULL. */
enum status net_infer(struct net *net, struct csc_diagnostics *diagnostics);

/* The activations of an edge (count,h,w,c), of the first images, after net_infer or net_forward, on the host. Of a
 * training net only: an inference net gives their memory to later layers. What a norm leaves to max pooling is there
 * after net_infer only. */
void net_get_activations(const struct net *net, int edge, int count, float *host);

/* With batch statistics, adding their moments to sums (device). */
enum status net_forward(struct net *net, float *reduce_buffer);

/* Per-sample losses (host, count floats) of the last forward or infer; logits (host, (count,K)) if not NULL. */
enum status net_losses(struct net *net, float smoothing, float *losses, float *logits);

/* Called when parameter `ready` (0: the head, 1: the last parameter ... params_count: the first) is final. */
typedef enum status net_ready(void *context, int ready);

/* After net_forward: adds the mean loss over the batch and all gradients of it to sums (device). ready may be NULL. */
enum status net_backward(struct net *net, float smoothing, float *reduce_buffer, net_ready *ready, void *context);

/* Whether what leads up to `ready` is to be under way when it is called, as where something then goes on beside the
 * rest. */
typedef bool net_must_flush(void *context, int ready);

/* Forward and backward of what was uploaded. On a device that records, later calls of the same sums, count, smoothing
 * and ready (given or not) replay it; ready may then be called later than it could, but where cuts (may be NULL) says
 * no. */
enum status net_train(struct net *net, float smoothing, float *reduce_buffer, net_ready *ready,
                      net_must_flush *must_flush, void *context);

/* Whether net_train launches its work as graphs by now. */
bool net_uses_graphs(const struct net *net);

/* The mean loss of the last net_backward: on the device, and on the host once it is there. */
const float *net_device_loss(const struct net *net);
double net_loss(const struct net *net);

/* Lambda of CSC-layer `csc` from the next net_infer on: (n) of the batch's images, host, each >= 0; NULL: the model's
 * own. The step size depends on the dictionary alone, so it stays valid. STATUS_NOMEM. */
enum status net_set_lambda(struct net *net, int csc, const float *lambda);

/* After net_infer of a net for NET_INPUT_GRADIENT: from dlogits (count,K) the gradient of the images (count,S,S,3),
 * weights and running statistics being constants; all on the host. dlambda (count): the derivative by each image's
 * lambda, over all layers that net_set_lambda has set; or NULL. */
enum status net_backward_input(struct net *net, const float *dlogits, float *dimages, double *dlambda);

#endif
