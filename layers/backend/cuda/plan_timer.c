/* plan_timer.c - see plan_timer.h. Times are those between two events on the selected stream. */
#include "layers/backend/cuda/plan_timer.h"

#include <math.h>
#include <stdlib.h>

#include "base/philox.h"

enum { TIMED_RUNS = 5, PATTERN = 1 << 16 }; /* measured runs of each plan; random numbers, which are repeated */
#define HOPELESS_FACTOR 1.5f /* a first run that is this many times slower than the best plan is the last */

/* The queue of the selected stream, for elements of the spec's type. */
static struct queue queue_of(struct gpu *gpu, const struct dnn_spec *spec)
{
    struct queue q = *cuda_queue(&gpu->base.base);
    q.type = spec->precision == PRECISION_BF16 ? BF16 : F32;
    return q;
}

/* Fills `count` elements of the spec's precision with numbers in -scale..scale; codes: in 0..scale, and six in ten
 * are 0. */
static enum status fill(struct gpu *gpu, const struct dnn_spec *spec, void *memory, size_t count, float scale,
                        bool codes)
{
    enum status status = STATUS_OK;
    struct philox draws;
    struct queue q = queue_of(gpu, spec);
    size_t element_bytes = precision_bytes(spec->precision), filled = count < PATTERN ? count : PATTERN;
    float *pattern = malloc(filled * sizeof *pattern), *floats = NULL;
    if (!pattern || cudaMalloc((void **)&floats, filled * sizeof *pattern) != cudaSuccess)
        FAIL(STATUS_NOMEM, "out of memory to measure a convolution");
    philox_init(&draws, 1, PHILOX_DOMAIN_POWER, count);
    for (size_t i = 0; i < filled; i++) {
        double u = philox_uniform(&draws);
        pattern[i] = (float)(codes ? fmax(u - 0.6, 0) / 0.4 : 2 * u - 1) * scale;
    }
    if (cudaMemcpyAsync(floats, pattern, filled * sizeof *pattern, cudaMemcpyHostToDevice, gpu->stream) !=
            cudaSuccess ||
        cudaStreamSynchronize(gpu->stream) != cudaSuccess)
        FAIL(STATUS_LOST, "the GPU failed: %s", cudaGetErrorString(cudaGetLastError()));
    if (q.type == BF16)
        kernel_to_activation(&q, floats, memory, filled);
    else
        kernel_axpby_f32(&q, 1, floats, 0, floats, memory, filled);
    for (size_t n; filled < count; filled += n) {
        n = filled < count - filled ? filled : count - filled;
        kernel_axpby_act(&q, 1, memory, 0, memory, (char *)memory + filled * element_bytes, n);
    }
fail:
    free(pattern);
    cudaFree(floats); /* waits for the kernels that read them */
    return status;
}

static enum status fill_operands(struct plan_timer *timer, struct gpu *gpu, const struct dnn_spec *spec,
                                 size_t operand_count)
{
    enum status status = STATUS_OK;
    const struct conv_shape *s = &spec->shape;
    size_t weights = dnn_weight_count(spec);
    const float scalars[] = { 0.1f, 1, 0.01f }; /* typical eta, nu and eta lambda nu */
    if (spec->kind != DNN_ADJOINT)
        TRY(fill(gpu, spec, timer->image, conv_in_count(s), 1, false));
    if (spec->kind != DNN_FORWARD)
        TRY(fill(gpu, spec, timer->code, dnn_code_count(spec), 1, true));
    if (spec->kind != DNN_GRADIENT)
        TRY(fill(gpu, spec, timer->weights, weights, sqrtf(3.0f * (float)s->d / (float)weights), false));
    TRY(fill(gpu, spec, timer->epilogue_operand, operand_count, 1, spec->kind == DNN_FORWARD));
    struct queue q = queue_of(gpu, spec);
    kernel_write_scalars(&q, timer->scalars, scalars[0], scalars[1], scalars[2]);
fail:
    return status;
}

enum status plan_timer_init(struct plan_timer *timer, struct gpu *gpu, const struct dnn_spec *spec)
{
    enum status status = STATUS_OK;
    const struct conv_shape *s = &spec->shape;
    size_t element_bytes = spec->float_result ? sizeof(float) : precision_bytes(spec->precision);
    size_t images = conv_in_count(s), codes = dnn_code_count(spec);
    size_t operand_count = spec->epilogue == DNN_PLAIN ? 1 : spec->kind == DNN_FORWARD ? codes : images;
    void **memory[] = { &timer->image, &timer->code, &timer->weights, &timer->epilogue_operand,
                        (void **)&timer->scalars };
    const size_t bytes[] = { images * element_bytes, codes * element_bytes, dnn_weight_count(spec) * sizeof(float),
                             operand_count * element_bytes, 3 * sizeof(float) };
    cudaError_t error = cudaEventCreate(&timer->start);
    if (error == cudaSuccess)
        error = cudaEventCreate(&timer->end);
    for (int i = 0; i < 5 && error == cudaSuccess; i++) {
        error = cudaMalloc(memory[i], bytes[i]);
        if (error == cudaSuccess)
            error = cudaMemset(*memory[i], 0, bytes[i]);
    }
    if (error != cudaSuccess)
        FAIL(STATUS_NOMEM, "not enough GPU memory to measure a convolution: %s", cudaGetErrorString(error));
    TRY(fill_operands(timer, gpu, spec, operand_count));
fail:
    return status;
}

void plan_timer_finish(struct plan_timer *timer)
{
    cudaGetLastError(); /* an allocation may have failed */
    cudaFree(timer->image);
    cudaFree(timer->code);
    cudaFree(timer->weights);
    cudaFree(timer->epilogue_operand);
    cudaFree(timer->scalars);
    if (timer->start)
        cudaEventDestroy(timer->start);
    if (timer->end)
        cudaEventDestroy(timer->end);
    *timer = (struct plan_timer){ 0 };
}

/* Applies the epilogue as conv.c does if it is not fused: one pass over the plain result. */
static void run_separate_epilogue(struct gpu *gpu, const struct timed_work *work, const struct plan_timer *timer)
{
    const struct dnn_spec *spec = work->separate_epilogue;
    struct conv conv = { .device = &gpu->base.base, .shape = spec->shape, .precision = spec->precision };
    bool forward = spec->kind == DNN_FORWARD,
         shrinks = spec->epilogue == DNN_SHRINK || spec->epilogue == DNN_SHRINK_ADD;
    bool adds = spec->epilogue != DNN_SCALE && spec->epilogue != DNN_SHRINK;
    const struct epilogue epilogue = { .kind = shrinks                          ? EPILOGUE_SHRINK
                                               : spec->epilogue == DNN_MASK_ADD ? EPILOGUE_MASK
                                                                                : EPILOGUE_LINEAR,
                                       .add = adds ? timer->epilogue_operand : NULL,
                                       .beta = spec->epilogue == DNN_SUBTRACT ? -1 : 1,
                                       .nonnegative = true,
                                       .mask = timer->epilogue_operand,
                                       .device_scalars = timer->scalars };
    int channels = forward ? spec->shape.d : spec->shape.c;
    size_t count = forward ? dnn_code_count(spec) : conv_in_count(&spec->shape);
    cuda_epilogue(&conv, &epilogue, work->plan->float_result ? F32 : BF16, forward ? timer->code : timer->image,
                  timer->epilogue_operand, count / channels, channels);
    cuda_queue(&gpu->base.base); /* clears the statistics, which belong to no batch norm */
}

static enum status queue_work(struct gpu *gpu, const struct timed_work *work, const struct plan_timer *timer)
{
    enum status status = STATUS_OK;
    const struct dnn_operands operands = { .image = timer->image,
                                           .code = timer->code,
                                           .weights = timer->weights,
                                           .add = timer->epilogue_operand,
                                           .mask = timer->epilogue_operand,
                                           .scalars = timer->scalars };
    const struct queue *q = cuda_queue(&gpu->base.base);
    size_t element_bytes = precision_bytes(gpu->base.base.precision);
    char *image = timer->image, *code = timer->code;
    kernel_axpby_act(q, 1, image, 0, image, image + work->copied_image * element_bytes, work->copied_image);
    kernel_axpby_act(q, 1, code, 0, code, code + work->copied_code * element_bytes, work->copied_code);
    for (int i = 0; i < work->runs; i++)
        TRY(gpu_run_plan(gpu, work->plan, &operands));
    kernel_axpby_f32(q, 1, timer->weights, 1, timer->weights, timer->weights, work->accumulated_weights);
    if (work->separate_epilogue)
        run_separate_epilogue(gpu, work, timer);
fail:
    return status;
}

enum status plan_timer_measure(struct gpu *gpu, const struct timed_work *work, struct plan_timer *timer, float to_beat,
                               float *fastest_ms)
{
    enum status status = STATUS_OK;
    *fastest_ms = INFINITY;
    for (int i = 0; i <= TIMED_RUNS && (i < 2 || *fastest_ms < HOPELESS_FACTOR * to_beat);
         i++) { /* the first run is not measured */
        float ms = INFINITY;
        cudaError_t error = cudaEventRecord(timer->start, gpu->stream);
        bool runs = queue_work(gpu, work, timer) == STATUS_OK;
        if (error == cudaSuccess)
            error = cudaEventRecord(timer->end, gpu->stream);
        if (error == cudaSuccess)
            error = cudaEventSynchronize(timer->end);
        if (error == cudaSuccess)
            error = cudaEventElapsedTime(&ms, timer->start, timer->end);
        if (error != cudaSuccess)
            FAIL(STATUS_LOST, "the GPU failed: %s", cudaGetErrorString(error));
        if (!runs) { /* the GPU is fine: this plan lacks memory or something else that it needs */
            status_clear();
            cudaGetLastError();
            *fastest_ms = INFINITY;
            break;
        }
        if (i > 0)
            *fastest_ms = ms < *fastest_ms ? ms : *fastest_ms;
    }
fail:
    return status;
}
