/* trial.c - see trial.h. */
#include "layers/cuda/trial.h"

#include <math.h>

enum { TIMED = 5 }; /* runs of each plan */

enum status trial_init(struct trial *trial, const struct dnn_spec *spec)
{
    enum status status = STATUS_OK;
    const struct conv_shape *s = &spec->shape;
    size_t one = spec->float_result ? sizeof(float) : precision_bytes(spec->precision);
    size_t images = conv_in_count(s) * one, codes = dnn_code_count(spec) * one, weights = dnn_weight_count(spec) * sizeof(float);
    size_t beside = spec->tail == DNN_PLAIN ? 1 : spec->kind == DNN_FORWARD ? codes : images, numbers = 3 * sizeof(float);
    void **memory[] = { &trial->image, &trial->code, &trial->weights, &trial->beside, (void **)&trial->numbers };
    const size_t bytes[] = { images, codes, weights, beside, numbers };
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
}

static enum status do_work(struct gpu *gpu, const struct work *work, const struct trial *trial)
{
    enum status status = STATUS_OK;
    const struct dnn_operands operands = { .image = trial->image, .code = trial->code, .weights = trial->weights,
                                           .add = trial->beside, .mask = trial->beside, .numbers = trial->numbers };
    const struct queue *q = cuda_queue(&gpu->base.base);
    size_t one = precision_bytes(gpu->base.base.precision);
    char *image = trial->image, *code = trial->code;
    kernel_blend(q, 1, image, 0, image, image + work->copied_image * one, work->copied_image);
    kernel_blend(q, 1, code, 0, code, code + work->copied_code * one, work->copied_code);
    for (int i = 0; i < work->runs; i++)
        TRY(gpu_run(gpu, work->plan, &operands));
    kernel_lincomb(q, 1, trial->weights, 1, trial->weights, trial->weights, work->added);
fail:
    return status;
}

enum status trial_time(struct gpu *gpu, const struct work *work, struct trial *trial, float *least)
{
    enum status status = STATUS_OK;
    *least = INFINITY;
    for (int i = 0; i <= TIMED; i++) { /* the first one warms up */
        float ms = INFINITY;
        cudaError_t error = cudaEventRecord(trial->start, gpu->stream);
        TRY(do_work(gpu, work, trial));
        if (error == cudaSuccess)
            error = cudaEventRecord(trial->end, gpu->stream);
        if (error == cudaSuccess)
            error = cudaEventSynchronize(trial->end);
        if (error == cudaSuccess)
            error = cudaEventElapsedTime(&ms, trial->start, trial->end);
        if (error != cudaSuccess)
            FAIL(STATUS_LOST, "the GPU failed: %s", cudaGetErrorString(error));
        if (i > 0)
            *least = ms < *least ? ms : *least;
    }
fail:
    return status;
}
