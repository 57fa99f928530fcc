/* net.h - a model planned for batches of one size: forward, loss, backward. */
#ifndef CSC_LAYERS_NET_H
#define CSC_LAYERS_NET_H

#include "base/gradient_sink.h"
#include "layers/model.h"

struct net;

/* The reduce buffer (device, floats): what a backward pass adds to and what ranks sum. It holds the mean loss, 15
 * floats that the caller may use, the batch-norm statistics (means and variances as in the model's running statistics,
 * padded to 16), then the gradient of every parameter as in the model's flat buffer. */
enum { REDUCE_BN_STATISTICS = 16 }; /* offset of the batch-norm statistics */
struct reduce_layout {
    size_t gradients; /* offset of the gradients */
    size_t count;     /* floats in all */
};
struct reduce_layout net_reduce_layout(const struct model *model);

enum net_use {
    NET_INFERENCE,
    NET_TRAINING,       /* net_forward and net_backward */
    NET_INPUT_GRADIENT, /* net_infer and net_backward_input */
};

/* Plans for n images; net_bytes is the device memory that net_allocate will take. */
enum status net_create(struct net **net, struct model *model, int n, enum net_use use);
enum status net_allocate(struct net *net);
size_t net_bytes(const struct net *net);
void net_destroy(struct net *net); /* NULL is fine */

size_t net_image_floats(const struct net *net); /* of one image: S * S * 3 */

/* Copies a batch to the device. images: host, (count,S,S,3), count <= n; labels: host, (count). The rows from count to
 * n keep what was there before and are ignored. */
enum status net_upload(struct net *net, const float *images, const int32_t *labels, int count);

/* The same for images as bytes, on a device with upload_pixels (backend.h). */
enum status net_upload_pixels(struct net *net, const void *raw, size_t bytes, const struct pixel_scale *scale,
                              const int32_t *labels, int count);

/* Forward with running statistics and the present step sizes. diagnostics: (csc_count), of this batch; or NULL. */
enum status net_infer(struct net *net, struct csc_diagnostics *diagnostics);

/* Copies an edge's activations (count,h,w,c), of the first `count` images, to the host, after net_infer or net_forward.
 * Not for NET_INFERENCE, where later layers reuse their memory. After net_forward the input of a max pooling that is
 * fused with its batch norm is not there. */
void net_get_activations(const struct net *net, int edge, int count, float *host);

/* Forward with batch statistics, which are added to the reduce buffer. */
enum status net_forward(struct net *net, float *reduce_buffer);

/* The losses (host, (count)) of the last forward or inference pass, and its logits (host, (count,K)) if not NULL. */
enum status net_losses(struct net *net, float smoothing, float *losses, float *logits);

/* After net_forward: adds the batch's mean loss and its gradients to the reduce buffer. */
enum status net_backward(struct net *net, float smoothing, float *reduce_buffer);

/* Forward and backward of the uploaded batch. The sink (or NULL) is told of the parts of the reduce buffer that are
 * final: part 0: all before the gradients; p: parameter p from the end of the network (1: the last, params_count: the
 * first). On a device with graphs, later calls with the same buffer, count, smoothing and sink launch graphs. */
enum status net_train(struct net *net, float smoothing, float *reduce_buffer, const struct gradient_sink *sink);

bool net_uses_graphs(const struct net *net); /* whether net_train has captured a graph */

/* The mean loss of the last net_backward: on the device, and on the host, for which the host waits. */
const float *net_device_loss(const struct net *net);
double net_loss(const struct net *net);

/* Sets the lambda of CSC-layer `csc` from the next net_infer on: one for each image (host, (n)), none negative, or NULL
 * for the model's own. The step size depends on the dictionary alone and stays valid. STATUS_NOMEM. */
enum status net_set_lambda(struct net *net, int csc, const float *lambda);

/* For NET_INPUT_GRADIENT, after net_infer: from dlogits (host, (count,K)) the gradient dimages (host, (count,S,S,3)),
 * with weights and running statistics constant. dlambda (host, (count)): the derivative by each image's lambda, summed
 * over the layers that net_set_lambda has set; or NULL. */
enum status net_backward_input(struct net *net, const float *dlogits, float *dimages, double *dlambda);

#endif
