/* linear.c - the classifier's three products by cuBLASLt, in tf32 unless the device's precision is fp32. x (N,C), w
 * (K,C) and logits (N,K) are a 1x1 convolution of images of one pixel. Where cuBLASLt has no plan, kernels of our
 * own are used. */
#include "layers/backend/cuda/gpu.h"

enum { ALIGNMENT = 4 }; /* bytes: parameters lie one behind another, so that no more is certain */

static struct gpu *of(struct device *device)
{
    return (struct gpu *)device;
}

static bool alike(const struct linear_plans *p, int n, int c, int k)
{
    return p->n == n && p->c == c && p->k == k;
}

/* The plans for these sizes: cuBLASLt's first proposals. Those of the last GPU_LINEAR_SHAPES sizes are kept, so that
 * training and evaluation find theirs. */
static struct linear_plans *plans_for(struct gpu *gpu, int n, int c, int k)
{
    struct linear_plans *p = gpu->linear;
    for (int i = 0; i < GPU_LINEAR_SHAPES; i++)
        if (alike(&p[i], n, c, k))
            return &p[i];
    p += gpu->next_linear;
    gpu->next_linear = (gpu->next_linear + 1) % GPU_LINEAR_SHAPES;
    gpu_destroy_linear_plans(p);
    *p = (struct linear_plans){ .n = n, .c = c, .k = k };
    for (enum dnn_kind kind = DNN_FORWARD; kind <= DNN_GRADIENT; kind++) {
        const struct dnn_spec spec = { .kind = kind,
                                       .shape = { n, 1, 1, c, k, 1, 1, 0 },
                                       .precision = gpu->base.base.precision == PRECISION_FP32 ? PRECISION_FP32
                                                                                               : PRECISION_TF32 };
        if (gemm_plan_create(&p->plans[kind], gpu->gemm, &spec, 0, GPU_WORKSPACE, ALIGNMENT) != STATUS_OK)
            status_clear(); /* out of memory: our own kernels are used */
    }
    return p;
}

void gpu_destroy_linear_plans(struct linear_plans *p)
{
    for (int i = 0; i < 3; i++)
        gemm_plan_destroy(p->plans[i]);
    *p = (struct linear_plans){ 0 };
}

/* Returns false if there is no plan. */
static bool run(struct gpu *gpu, const struct gemm_plan *plan, const float *image, const float *code,
                const float *weights, float beta)
{
    const struct dnn_operands operands = { .image = image, .code = code, .weights = weights };
    if (!plan)
        return false;
    if (gemm_run(plan, gpu->gemm, gpu->stream, &operands, beta, gpu->workspace) != STATUS_OK &&
        gpu->failure.code == STATUS_OK)
        status_save(&gpu->failure);
    return true;
}

static void linear_forward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y)
{
    const struct queue *q = cuda_queue(device);
    const struct linear_plans *p = plans_for(of(device), n, c, k);
    if (!p->plans[DNN_FORWARD]) {
        kernel_linear_forward(q, n, c, k, x, w, b, y);
        return;
    }
    kernel_broadcast_bias(q, n, k, b, y);
    run(of(device), p->plans[DNN_FORWARD], x, y, w, 1);
}

static void linear_backward(struct device *device, int n, int c, int k, const float *x, const float *w, const float *dy,
                            float *dx, float *dw, float *db)
{
    const struct queue *q = cuda_queue(device);
    const struct linear_plans *p = plans_for(of(device), n, c, k);
    if (!run(of(device), p->plans[DNN_ADJOINT], dx, dy, w, 0))
        kernel_linear_input_gradient(q, n, c, k, w, dy, dx);
    if (!run(of(device), p->plans[DNN_GRADIENT], x, dy, dw, 1))
        kernel_linear_weight_gradient(q, n, c, k, x, dy, dw);
    kernel_bias_gradient(q, n, k, dy, db);
}

void gpu_fill_linear(struct backend *table)
{
    table->linear_forward = linear_forward;
    table->linear_backward = linear_backward;
}
