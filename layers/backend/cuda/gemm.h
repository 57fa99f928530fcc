/* gemm.h - a pointwise convolution as one product of matrices, by cuBLASLt. With R = N H W rows:
 *     forward   code (R,D) = image (R,C) weights^T
 *     adjoint   image = code weights
 *     gradient  weights (D,C) = code^T image */
#ifndef CSC_LAYERS_BACKEND_CUDA_GEMM_H
#define CSC_LAYERS_BACKEND_CUDA_GEMM_H

#include <cublasLt.h>

#include "layers/backend/cuda/dnn_spec.h"

struct gemm_plan;

/* Whether it is one: a kernel of one pixel, stride 1, no padding, and nothing fused behind it. */
bool gemm_fits(const struct dnn_spec *spec);

/* cuBLASLt's `choice`-th proposal (0: the one that its heuristics rank first) among those that need at most `most`
 * bytes of workspace and repeat bits. alignment: bytes, of every operand. *plan is NULL where there is none: not an
 * error. */
enum status gemm_plan_create(struct gemm_plan **plan, cublasLtHandle_t handle, const struct dnn_spec *spec, int choice,
                             size_t max_workspace, int alignment);
void gemm_plan_destroy(struct gemm_plan *plan);      /* NULL is fine */
size_t gemm_workspace(const struct gemm_plan *plan); /* bytes */

/* result = product + beta result, queued on the stream. workspace: as many bytes as gemm_workspace says. */
enum status gemm_run(const struct gemm_plan *plan, cublasLtHandle_t handle, cudaStream_t stream,
                     const struct dnn_operands *operands, float beta, void *workspace);

#endif
