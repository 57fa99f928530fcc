/* dnn_graph.h - a convolution as a graph of cuDNN's descriptors. Only for dnn.c. */
#ifndef CSC_LAYERS_BACKEND_CUDA_DNN_GRAPH_H
#define CSC_LAYERS_BACKEND_CUDA_DNN_GRAPH_H

#include <cudnn_graph.h>

#include "layers/backend/cuda/dnn_spec.h"

enum { DNN_DESCRIPTORS = 1024, DNN_OPERATIONS = 8 };

/* Names of the tensors. A call names those that its graph has. */
enum dnn_uid { DNN_IMAGE = 1, DNN_CODE, DNN_WEIGHTS, DNN_ADDEND, DNN_MASK, DNN_ALPHA, DNN_NU, DNN_THRESHOLD, DNN_UIDS };

struct dnn_graph {
    cudnnBackendDescriptor_t made[DNN_DESCRIPTORS], operations[DNN_OPERATIONS], graph;
    int made_count, operation_count, virtual_count;
    cudnnStatus_t error; /* the first one */
};

/* The graph, finalised for the handle's device or for the one with these properties. NULL if out of memory; see error.
 */
struct dnn_graph *dnn_graph_create(cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                                   const struct dnn_spec *spec);
void dnn_graph_destroy(struct dnn_graph *graph); /* NULL is fine */
/* The tensors that the graph has: bit 1 << uid of each. */
unsigned dnn_graph_tensors(const struct dnn_spec *spec);

/* A new descriptor, which the graph owns; NULL after an error. */
cudnnBackendDescriptor_t dnn_graph_make(struct dnn_graph *graph, cudnnBackendDescriptorType_t type);
void dnn_graph_set(struct dnn_graph *graph, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void *value);
void dnn_graph_set_descriptor(struct dnn_graph *graph, cudnnBackendDescriptor_t descriptor,
                              cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value);
/* Returns the descriptor. */
cudnnBackendDescriptor_t dnn_graph_finalize(struct dnn_graph *graph, cudnnBackendDescriptor_t descriptor);

#endif
