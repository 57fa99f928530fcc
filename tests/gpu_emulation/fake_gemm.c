/* fake_gemm.c - computes cuBLASLt's products by plain loops over column-major matrices. Refuses layouts, types,
 * alignments and workspaces that cuBLASLt would refuse or that do not match the proposal. */
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/element.h"
#include "tests/gpu_emulation/fake_cuda.h"

enum { PROPOSALS = 2, WORKSPACE = 1024 /* bytes that the second proposal needs */ };

struct fake_cublaslt {
    int magic;
};
struct fake_product {
    cublasComputeType_t compute;
    bool transposed[2];
};
struct fake_layout {
    enum precision type;
    uint64_t rows, columns;
    int64_t leading;
};
struct fake_preference {
    uint64_t workspace;
    uint32_t scheme, alignment[4];
};

size_t cublasLtGetVersion(void)
{
    return 130000;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "invalid value";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = calloc(1, sizeof **handle);
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *product, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if (scale != CUDA_R_32F)
        return CUBLAS_STATUS_INVALID_VALUE;
    *product = calloc(1, sizeof **product);
    if (!*product)
        return CUBLAS_STATUS_ALLOC_FAILED;
    (*product)->compute = compute;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product)
{
    free(product);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t which,
                                              const void *value, size_t bytes)
{
    cublasOperation_t operation;
    if (bytes != sizeof operation)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&operation, value, sizeof operation);
    product->transposed[which == CUBLASLT_MATMUL_DESC_TRANSB] = operation == CUBLAS_OP_T;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t leading)
{
    if (leading < (int64_t)rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    *layout = calloc(1, sizeof **layout);
    if (!*layout)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **layout = (struct fake_layout){ type == CUDA_R_16BF ? PRECISION_BF16 : PRECISION_FP32, rows, columns, leading };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = calloc(1, sizeof **preference);
    if (!*preference)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **preference = (struct fake_preference){ .scheme = 7, .alignment = { 256, 256, 256, 256 } };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which, const void *value,
                                                    size_t bytes)
{
    bool long_one = which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    if (bytes != (long_one ? sizeof(uint64_t) : sizeof(uint32_t)))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(long_one ? (void *)&preference->workspace
           : which == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK
               ? (void *)&preference->scheme
               : (void *)&preference->alignment[which - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
           value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* Whether the sizes of op(a), op(b) and d match. */
static bool matches(const struct fake_product *p, const struct fake_layout *a, const struct fake_layout *b,
                    const struct fake_layout *d, uint64_t *depth)
{
    uint64_t m = p->transposed[0] ? a->columns : a->rows, k = p->transposed[0] ? a->rows : a->columns;
    uint64_t k2 = p->transposed[1] ? b->columns : b->rows, n = p->transposed[1] ? b->rows : b->columns;
    *depth = k;
    return k == k2 && m == d->rows && n == d->columns && a->type == b->type &&
           (d->type == a->type || d->type == PRECISION_FP32) &&
           (p->compute == CUBLAS_COMPUTE_32F || a->type == PRECISION_FP32);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int max_results,
                                              cublasLtMatmulHeuristicResult_t *results, int *count)
{
    uint64_t depth;
    *count = 0;
    /* split sums must be in fp32 and give the same bits in every run */
    if (!handle || c != d || !matches(product, a, b, d, &depth) ||
        preference->scheme & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < PROPOSALS && i < max_results && d->rows > 1 && d->columns > 1 && depth > 1;
         i++) { /* there are none for vectors */
        results[i] = (cublasLtMatmulHeuristicResult_t){ .workspaceSize = (size_t)i * WORKSPACE,
                                                        .state = i * WORKSPACE <= (int64_t)preference->workspace
                                                                     ? CUBLAS_STATUS_SUCCESS
                                                                     : CUBLAS_STATUS_INVALID_VALUE };
        results[i].algo.data[0] = (uint64_t)i + 1;
        for (int o = 0; o < 4; o++)
            results[i].algo.data[1 + o] = preference->alignment[o];
        *count = i + 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

static bool is_aligned_on_device(const void *memory, const struct fake_layout *l, uint64_t alignment)
{
    size_t elements = (size_t)l->leading * (l->columns - 1) + l->rows;
    return alignment > 0 && (uintptr_t)memory % alignment == 0 &&
           fake_cuda_owns(memory, elements * precision_bytes(l->type));
}

static float at(const void *memory, const struct fake_layout *l, bool transposed, uint64_t row, uint64_t column)
{
    return element_load(l->type, memory, transposed ? row * l->leading + column : column * l->leading + row);
}

/* A product whose operands have been checked, with copies of its descriptors. */
struct product {
    bool transposed[2];
    struct fake_layout a_layout, b_layout, d_layout;
    float by, old;
    const void *a, *b;
    void *d;
    uint64_t depth;
};

static void multiply(const void *arguments)
{
    const struct product *p = arguments;
    fake_cuda_unlock();
    for (uint64_t n = 0; n < p->d_layout.columns; n++)
        for (uint64_t m = 0; m < p->d_layout.rows; m++) {
            double sum = 0;
            size_t to = n * (size_t)p->d_layout.leading + m;
            for (uint64_t k = 0; k < p->depth; k++)
                sum += (double)at(p->a, &p->a_layout, p->transposed[0], m, k) *
                       at(p->b, &p->b_layout, p->transposed[1], k, n);
            element_store(p->d_layout.type, p->d, to,
                          (float)(p->by * sum + (p->old != 0 ? p->old * element_load(p->d_layout.type, p->d, to) : 0)));
        }
    fake_cuda_lock();
    fake_cuda_advance_clock(0.5);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    uint64_t depth, proposal = algorithm->data[0];
    const float *by = alpha, *old = beta;
    if (!handle || !stream || c != d || c_layout != d_layout ||
        !matches(product, a_layout, b_layout, d_layout, &depth) ||
        !is_aligned_on_device(a, a_layout, algorithm->data[1]) ||
        !is_aligned_on_device(b, b_layout, algorithm->data[2]) ||
        !is_aligned_on_device(d, d_layout, algorithm->data[4]) || proposal < 1 || proposal > PROPOSALS ||
        workspace_bytes < (proposal - 1) * WORKSPACE ||
        (workspace_bytes > 0 && !fake_cuda_owns(workspace, workspace_bytes)))
        return CUBLAS_STATUS_INVALID_VALUE;
    const struct product p = {
        { product->transposed[0], product->transposed[1] }, *a_layout, *b_layout, *d_layout, *by, *old, a, b, d, depth
    };
    return fake_cuda_enqueue(stream, multiply, &p, sizeof p) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                            : CUBLAS_STATUS_EXECUTION_FAILED;
}
