/* dnn.h - plans of cuDNN's graphs: a convolution with its fused epilogue, by cuDNN 9's backend descriptors. */
#ifndef CSC_LAYERS_BACKEND_CUDA_DNN_H
#define CSC_LAYERS_BACKEND_CUDA_DNN_H

#include <cudnn_graph.h>

#include "layers/backend/cuda/dnn_choice.h"
#include "layers/backend/cuda/dnn_spec.h"

struct dnn_plan {
    cudnnBackendDescriptor_t plan;
    size_t workspace;        /* bytes */
    unsigned tensors;        /* of the graph, see dnn_graph_tensors */
    struct dnn_graph *graph; /* owned */
};

/* What may be tried for a graph: choices that keep the precision and give the same bits in every run. The first
 * `ranked` are proposed by cuDNN's heuristics, best first, and by its list of fallbacks. For a fused graph they are
 * followed by every kernel of the engines that are in the list of fallbacks only: on Hopper these are the wgmma
 * kernels. cuDNN may reject any choice when its plan is built. */
enum { DNN_MAX_CHOICES = 96 };
struct dnn_proposals {
    struct dnn_choice choices[DNN_MAX_CHOICES];
    int count, ranked;
};

/* Functions that take `properties` plan for a device with these properties, which need not exist; NULL: for the
 * handle's device. Several threads may call them at once, each with a handle of its own. */
enum status dnn_propose(cudnnHandle_t handle, cudnnBackendDescriptor_t properties, const struct dnn_spec *spec,
                        struct dnn_proposals *proposals);
/* *plan is NULL, which is not an error, if cuDNN has no such plan or it needs more than max_workspace bytes. */
enum status dnn_plan_create(struct dnn_plan **plan, cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                            const struct dnn_spec *spec, const struct dnn_choice *choice, size_t max_workspace);
void dnn_plan_destroy(struct dnn_plan *plan); /* NULL is fine */
/* The name of the plan's kernel, such as "cudnn_generated_convDgrad_pointwise_xmma_sm90_...", or "" if cuDNN does not
 * tell. Slow: cuDNN prints the whole plan. */
enum { DNN_KERNEL_NAME = 128 };
void dnn_plan_kernel(const struct dnn_plan *plan, char name[DNN_KERNEL_NAME]);

/* Queues the plan on the handle's stream. workspace: plan->workspace bytes of device memory. */
enum status dnn_run(const struct dnn_plan *plan, cudnnHandle_t handle, const struct dnn_operands *operands,
                    void *workspace);

#endif
