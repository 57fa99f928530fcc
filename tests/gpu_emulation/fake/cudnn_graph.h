/* cudnn_graph.h - the part of cuDNN that layers/backend/cuda uses besides graphs. Graphs are computed by fake_dnn.c,
 * which replaces dnn.c and dnn_graph.c. */
#ifndef CSC_TESTS_GPU_EMULATION_FAKE_CUDNN_GRAPH_H
#define CSC_TESTS_GPU_EMULATION_FAKE_CUDNN_GRAPH_H

#include <cuda_runtime_api.h>
#include <stddef.h>

typedef enum { CUDNN_STATUS_SUCCESS, CUDNN_STATUS_NOT_INITIALIZED } cudnnStatus_t;
typedef struct fake_cudnn *cudnnHandle_t;
typedef enum { CUDNN_KNOB_TYPE_KERNEL_CFG = 24 } cudnnBackendKnobType_t;
typedef void *cudnnBackendDescriptor_t;

size_t cudnnGetVersion(void);
const char *cudnnGetErrorString(cudnnStatus_t status);
cudnnStatus_t cudnnCreate(cudnnHandle_t *handle);
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream);
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle);

#endif
