/* dnn_graph.h - a convolution and its fused epilogue as a graph of cuDNN's backend descriptors. Only for dnn.c. */
#ifndef CSC_LAYERS_BACKEND_CUDA_DNN_GRAPH_H
#define CSC_LAYERS_BACKEND_CUDA_DNN_GRAPH_H

#include <cudnn_graph.h>

#include "layers/backend/cuda/dnn_spec.h"

enum { DNN_DESCRIPTORS = 1024, DNN_OPERATIONS = 8 };

/* Unique ids of a graph's tensors. A call passes a pointer for each tensor that the graph has. */
enum dnn_uid { DNN_IMAGE = 1, DNN_CODE, DNN_WEIGHTS, DNN_ADDEND, DNN_MASK, DNN_ALPHA, DNN_NU, DNN_THRESHOLD, DNN_UIDS };

struct dnn_graph {
    cudnnBackendDescriptor_t made[DNN_DESCRIPTORS], operations[DNN_OPERATIONS], graph;
    int made_count, operation_count, virtual_count;
    cudnnStatus_t error; /* the first error; later calls do nothing */
};

/* Builds and finalises the graph, for the handle's device or for a device with these properties. NULL if out of
 * memory; other errors are in ->error. */
struct dnn_graph *dnn_graph_create(cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                                   const struct dnn_spec *spec);
void dnn_graph_destroy(struct dnn_graph *graph); /* NULL is fine */
/* The tensors of the spec's graph, as a set of bits 1 << uid. */
unsigned dnn_graph_tensors(const struct dnn_spec *spec);

/* Creates a descriptor, which the graph owns. NULL after an error. */
cudnnBackendDescriptor_t dnn_graph_make(struct dnn_graph *graph, cudnnBackendDescriptorType_t type);
void dnn_graph_set(struct dnn_graph *graph, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void *value);
void dnn_graph_set_descriptor(struct dnn_graph *graph, cudnnBackendDescriptor_t descriptor,
                              cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value);
/* Finalises and returns the descriptor. */
cudnnBackendDescriptor_t dnn_graph_finalize(struct dnn_graph *graph, cudnnBackendDescriptor_t descriptor);

#endif
