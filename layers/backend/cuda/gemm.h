/* gemm.h - a pointwise convolution as a matrix product by cuBLASLt. With R = N H W rows:
 *     forward   code (R,D) = image (R,C) weights^T
 *     adjoint   image = code weights
 *     gradient  weights (D,C) = code^T image */
#ifndef CSC_LAYERS_BACKEND_CUDA_GEMM_H
#define CSC_LAYERS_BACKEND_CUDA_GEMM_H

#include <cublasLt.h>

#include "layers/backend/cuda/dnn_spec.h"

struct gemm_plan;

/* True for a 1x1 kernel with stride 1, no padding and no fused epilogue. */
bool gemm_fits(const struct dnn_spec *spec);

/* Creates the plan of cuBLASLt's proposal number `choice` (0: ranked first), among those that need at most
 * max_workspace bytes and give the same bits in every run. alignment: of every operand, in bytes. *plan is NULL if
 * there is no such proposal, which is not an error. */
enum status gemm_plan_create(struct gemm_plan **plan, cublasLtHandle_t handle, const struct dnn_spec *spec, int choice,
                             size_t max_workspace, int alignment);
void gemm_plan_destroy(struct gemm_plan *plan);      /* NULL is fine */
size_t gemm_workspace(const struct gemm_plan *plan); /* bytes */

/* Queues result = product + beta * result on the stream. workspace: gemm_workspace(plan) bytes of device memory. */
enum status gemm_run(const struct gemm_plan *plan, cublasLtHandle_t handle, cudaStream_t stream,
                     const struct dnn_operands *operands, float beta, void *workspace);

#endif
