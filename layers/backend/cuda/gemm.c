/* gemm.c - matrix products by cuBLASLt, whose matrices are column-major: our (rows, columns) is its (columns, rows),
 * and the factors of a product change places. */
#include "layers/backend/cuda/gemm.h"

#include <stdlib.h>

enum { MAX_PROPOSALS = 8 };

/* to (m, n) = a (m, k) b (k, n), column-major; a and b may be transposed. */
struct gemm_plan {
    enum dnn_kind kind;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, to;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace; /* bytes */
};

bool gemm_fits(const struct dnn_spec *spec)
{
    const struct conv_shape *s = &spec->shape;
    return s->k == 1 && s->stride == 1 && s->pad == 0 && spec->epilogue == DNN_PLAIN;
}

static cublasStatus_t set_transposed(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t which)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    return cublasLtMatmulDescSetAttribute(product, which, &transposed, sizeof transposed);
}

/* Describes the product and the layout of its matrices. */
static cublasStatus_t describe(struct gemm_plan *p, const struct dnn_spec *spec)
{
    const struct conv_shape *s = &spec->shape;
    uint64_t rows = (uint64_t)s->n * s->h * s->w, c = s->c, d = s->d;
    cudaDataType_t type = spec->precision == PRECISION_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    cudaDataType_t result = spec->float_result ? CUDA_R_32F : type;
    cublasStatus_t error = cublasLtMatmulDescCreate(
        &p->product, spec->precision == PRECISION_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (error == CUBLAS_STATUS_SUCCESS && spec->kind == DNN_FORWARD)
        error = set_transposed(p->product, CUBLASLT_MATMUL_DESC_TRANSA);
    if (error == CUBLAS_STATUS_SUCCESS && spec->kind == DNN_GRADIENT)
        error = set_transposed(p->product, CUBLASLT_MATMUL_DESC_TRANSB);
    if (error == CUBLAS_STATUS_SUCCESS) /* weights, or image */
        error = cublasLtMatrixLayoutCreate(&p->a, type, c, spec->kind == DNN_GRADIENT ? rows : d, (int64_t)c);
    if (error == CUBLAS_STATUS_SUCCESS) /* image, or code */
        error = cublasLtMatrixLayoutCreate(&p->b, type, spec->kind == DNN_FORWARD ? c : d, rows,
                                           (int64_t)(spec->kind == DNN_FORWARD ? c : d));
    if (error == CUBLAS_STATUS_SUCCESS) /* code, image or weights */
        error = cublasLtMatrixLayoutCreate(&p->to, result, spec->kind == DNN_FORWARD ? d : c,
                                           spec->kind == DNN_GRADIENT ? d : rows,
                                           (int64_t)(spec->kind == DNN_FORWARD ? d : c));
    return error;
}

/* Sums that are split are added in fp32 and in a fixed order. */
static cublasStatus_t prefer(cublasLtMatmulPreference_t preference, size_t max_workspace, uint32_t alignment)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES };
    const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint64_t bytes = max_workspace;
    cublasStatus_t error = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                                &bytes, sizeof bytes);
    if (error == CUBLAS_STATUS_SUCCESS)
        error = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme,
                                                     sizeof scheme);
    for (int i = 0; i < 4 && error == CUBLAS_STATUS_SUCCESS; i++)
        error = cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment, sizeof alignment);
    return error;
}

/* Returns false if there is no such proposal. */
static bool propose(struct gemm_plan *p, cublasLtHandle_t handle, int choice, size_t max_workspace, uint32_t alignment)
{
    cublasLtMatmulHeuristicResult_t results[MAX_PROPOSALS];
    cublasLtMatmulPreference_t preference = NULL;
    int count = 0;
    bool found = false;
    if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
        return false;
    if (prefer(preference, max_workspace, alignment) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulAlgoGetHeuristic(handle, p->product, p->a, p->b, p->to, p->to, preference, MAX_PROPOSALS, results,
                                       &count) != CUBLAS_STATUS_SUCCESS)
        count = 0;
    for (int i = 0; i < count && !found; i++) {
        if (results[i].state != CUBLAS_STATUS_SUCCESS || results[i].workspaceSize > max_workspace || choice-- > 0)
            continue;
        p->algorithm = results[i].algo;
        p->workspace = results[i].workspaceSize;
        found = true;
    }
    cublasLtMatmulPreferenceDestroy(preference);
    return found;
}

enum status gemm_plan_create(struct gemm_plan **out, cublasLtHandle_t handle, const struct dnn_spec *spec, int choice,
                             size_t max_workspace, int alignment)
{
    enum status status = STATUS_OK;
    struct gemm_plan *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        FAIL(STATUS_NOMEM, "out of memory for the plan of a matrix product");
    p->kind = spec->kind;
    if (describe(p, spec) != CUBLAS_STATUS_SUCCESS || !propose(p, handle, choice, max_workspace, (uint32_t)alignment))
        goto fail; /* not an error */
    *out = p;
    return STATUS_OK;
fail:
    gemm_plan_destroy(p);
    return status;
}

void gemm_plan_destroy(struct gemm_plan *p)
{
    if (!p)
        return;
    cublasLtMatrixLayout_t layouts[] = { p->a, p->b, p->to };
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            cublasLtMatrixLayoutDestroy(layouts[i]);
    if (p->product)
        cublasLtMatmulDescDestroy(p->product);
    free(p);
}

size_t gemm_workspace(const struct gemm_plan *p)
{
    return p->workspace;
}

enum status gemm_run(const struct gemm_plan *p, cublasLtHandle_t handle, cudaStream_t stream,
                     const struct dnn_operands *o, float beta, void *workspace)
{
    enum status status = STATUS_OK;
    const float one = 1;
    const void *a = p->kind == DNN_GRADIENT ? o->image : o->weights, *b = p->kind == DNN_FORWARD ? o->image : o->code;
    void *to = (void *)(p->kind == DNN_FORWARD ? o->code : p->kind == DNN_ADJOINT ? o->image : o->weights);
    cublasStatus_t error = cublasLtMatmul(handle, p->product, &one, a, p->a, b, p->b, &beta, to, p->to, to, p->to,
                                          &p->algorithm, workspace, p->workspace, stream);
    if (error != CUBLAS_STATUS_SUCCESS)
        FAIL(STATUS_LOST, "cuBLASLt: %s", cublasLtGetStatusString(error));
fail:
    return status;
}
