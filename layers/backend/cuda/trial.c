/* trial.c - see trial.h. */
#include "layers/backend/cuda/trial.h"

#include <math.h>
#include <stdlib.h>

#include "base/philox.h"

enum { TIMED = 5, PATTERN = 1 << 16 }; /* runs of each plan; random numbers, which are repeated */
#define HOPELESS 1.5f                  /* times the best: a plan that is so slow at first is not run again */

/* The queue of the device's first kernels, for elements of the spec. */
static struct queue queue_of(struct gpu *gpu, const struct dnn_spec *spec)
{
    struct queue q = *cuda_queue(&gpu->base.base);
    q.type = spec->precision == PRECISION_BF16 ? BF16 : F32;
    return q;
}

/* count elements of the spec's precision: uniform in -scale..scale, or, of codes, in 0..scale or zero. */
static enum status fill(struct gpu *gpu, const struct dnn_spec *spec, void *memory, size_t count, float scale,
                        bool codes)
{
    enum status status = STATUS_OK;
    struct philox draws;
    struct queue q = queue_of(gpu, spec);
    size_t one = precision_bytes(spec->precision), known = count < PATTERN ? count : PATTERN;
    float *pattern = malloc(known * sizeof *pattern), *floats = NULL;
    if (!pattern || cudaMalloc((void **)&floats, known * sizeof *pattern) != cudaSuccess)
        FAIL(STATUS_NOMEM, "out of memory to measure a convolution");
    philox_init(&draws, 1, PHILOX_DOMAIN_POWER, count);
    for (size_t i = 0; i < known; i++) {
        double u = philox_uniform(&draws);
        pattern[i] = (float)(codes ? fmax(u - 0.6, 0) / 0.4 : 2 * u - 1) * scale;
    }
    if (cudaMemcpyAsync(floats, pattern, known * sizeof *pattern, cudaMemcpyHostToDevice, gpu->stream) != cudaSuccess ||
        cudaStreamSynchronize(gpu->stream) != cudaSuccess)
        FAIL(STATUS_LOST, "the GPU failed: %s", cudaGetErrorString(cudaGetLastError()));
    if (q.type == BF16)
        kernel_to_activation(&q, floats, memory, known);
    else
        kernel_lincomb(&q, 1, floats, 0, floats, memory, known);
    for (size_t n; known < count; known += n) {
        n = known < count - known ? known : count - known;
        kernel_blend(&q, 1, memory, 0, memory, (char *)memory + known * one, n);
    }
fail:
    free(pattern);
    cudaFree(floats); /* waits for its users */
    return status;
}

static enum status fill_all(struct trial *trial, struct gpu *gpu, const struct dnn_spec *spec, size_t beside)
{
    enum status status = STATUS_OK;
    const struct conv_shape *s = &spec->shape;
    size_t weights = dnn_weight_count(spec);
    const float numbers[] = { 0.1f, 1, 0.01f }; /* eta, nu and eta lambda nu of a usual layer */
    if (spec->kind != DNN_ADJOINT)
        TRY(fill(gpu, spec, trial->image, conv_in_count(s), 1, false));
    if (spec->kind != DNN_FORWARD)
        TRY(fill(gpu, spec, trial->code, dnn_code_count(spec), 1, true));
    if (spec->kind != DNN_GRADIENT)
        TRY(fill(gpu, spec, trial->weights, weights, sqrtf(3.0f * (float)s->d / (float)weights), false));
    TRY(fill(gpu, spec, trial->beside, beside, 1, spec->kind == DNN_FORWARD));
    struct queue q = queue_of(gpu, spec);
    kernel_numbers(&q, trial->numbers, numbers[0], numbers[1], numbers[2]);
fail:
    return status;
}

enum status trial_init(struct trial *trial, struct gpu *gpu, const struct dnn_spec *spec)
{
    enum status status = STATUS_OK;
    const struct conv_shape *s = &spec->shape;
    size_t one = spec->float_result ? sizeof(float) : precision_bytes(spec->precision);
    size_t images = conv_in_count(s), codes = dnn_code_count(spec);
    size_t beside = spec->epilogue == DNN_PLAIN ? 1 : spec->kind == DNN_FORWARD ? codes : images;
    void **memory[] = { &trial->image, &trial->code, &trial->weights, &trial->beside, (void **)&trial->numbers };
    const size_t bytes[] = { images * one, codes * one, dnn_weight_count(spec) * sizeof(float), beside * one,
                             3 * sizeof(float) };
    cudaError_t error = cudaEventCreate(&trial->start);
    if (error == cudaSuccess)
        error = cudaEventCreate(&trial->end);
    for (int i = 0; i < 5 && error == cudaSuccess; i++) {
        error = cudaMalloc(memory[i], bytes[i]);
        if (error == cudaSuccess)
            error = cudaMemset(*memory[i], 0, bytes[i]);
    }
    if (error != cudaSuccess)
        FAIL(STATUS_NOMEM, "the GPU has no memory to measure a convolution: %s", cudaGetErrorString(error));
    TRY(fill_all(trial, gpu, spec, beside));
fail:
    return status;
}

void trial_finish(struct trial *trial)
{
    cudaGetLastError(); /* of memory that there was not */
    cudaFree(trial->image);
    cudaFree(trial->code);
    cudaFree(trial->weights);
    cudaFree(trial->beside);
    cudaFree(trial->numbers);
    if (trial->start)
        cudaEventDestroy(trial->start);
    if (trial->end)
        cudaEventDestroy(trial->end);
    *trial = (struct trial){ 0 };
}

/* What conv.c does where a tail is not fused: one pass over the plain result. */
static void pass_over(struct gpu *gpu, const struct work *work, const struct trial *trial)
{
    const struct dnn_spec *spec = work->pass;
    struct conv conv = { .device = &gpu->base.base, .shape = spec->shape, .precision = spec->precision };
    bool forward = spec->kind == DNN_FORWARD,
         shrinks = spec->epilogue == DNN_SHRINK || spec->epilogue == DNN_SHRINK_ADD;
    bool adds = spec->epilogue != DNN_SCALE && spec->epilogue != DNN_SHRINK;
    const struct epilogue epilogue = { .kind = shrinks                          ? EPILOGUE_SHRINK
                                               : spec->epilogue == DNN_MASK_ADD ? EPILOGUE_MASK
                                                                                : EPILOGUE_LINEAR,
                                       .add = adds ? trial->beside : NULL,
                                       .beta = spec->epilogue == DNN_SUBTRACT ? -1 : 1,
                                       .nonnegative = true,
                                       .mask = trial->beside,
                                       .numbers = trial->numbers };
    int channels = forward ? spec->shape.d : spec->shape.c;
    size_t count = forward ? dnn_code_count(spec) : conv_in_count(&spec->shape);
    cuda_epilogue(&conv, &epilogue, work->plan->float_result ? F32 : BF16, forward ? trial->code : trial->image,
                  trial->beside, count / channels, channels);
    cuda_queue(&gpu->base.base); /* forgets the sums that a batch norm would have used */
}

static enum status do_work(struct gpu *gpu, const struct work *work, const struct trial *trial)
{
    enum status status = STATUS_OK;
    const struct dnn_operands operands = { .image = trial->image,
                                           .code = trial->code,
                                           .weights = trial->weights,
                                           .add = trial->beside,
                                           .mask = trial->beside,
                                           .numbers = trial->numbers };
    const struct queue *q = cuda_queue(&gpu->base.base);
    size_t one = precision_bytes(gpu->base.base.precision);
    char *image = trial->image, *code = trial->code;
    kernel_blend(q, 1, image, 0, image, image + work->copied_image * one, work->copied_image);
    kernel_blend(q, 1, code, 0, code, code + work->copied_code * one, work->copied_code);
    for (int i = 0; i < work->runs; i++)
        TRY(gpu_run_plan(gpu, work->plan, &operands));
    kernel_lincomb(q, 1, trial->weights, 1, trial->weights, trial->weights, work->added);
    if (work->pass)
        pass_over(gpu, work, trial);
fail:
    return status;
}

enum status trial_time(struct gpu *gpu, const struct work *work, struct trial *trial, float enough, float *least)
{
    enum status status = STATUS_OK;
    *least = INFINITY;
    for (int i = 0; i <= TIMED && (i < 2 || *least < HOPELESS * enough); i++) { /* the first one warms up */
        float ms = INFINITY;
        cudaError_t error = cudaEventRecord(trial->start, gpu->stream);
        bool runs = do_work(gpu, work, trial) == STATUS_OK;
        if (error == cudaSuccess)
            error = cudaEventRecord(trial->end, gpu->stream);
        if (error == cudaSuccess)
            error = cudaEventSynchronize(trial->end);
        if (error == cudaSuccess)
            error = cudaEventElapsedTime(&ms, trial->start, trial->end);
        if (error != cudaSuccess)
            FAIL(STATUS_LOST, "the GPU failed: %s", cudaGetErrorString(error));
        if (!runs) { /* but the GPU is fine: it has no memory for this one, or not what it asks for */
            status_clear();
            cudaGetLastError();
            *least = INFINITY;
            break;
        }
        if (i > 0)
            *least = ms < *least ? ms : *least;
    }
fail:
    return status;
}
