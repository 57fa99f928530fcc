/* backend.c - shapes of convolutions and the choice of a device. */
#include "layers/backend/backend.h"

#include <stdio.h>
#include <string.h>

#include "layers/backend/cpu/cpu.h"
#ifdef CSC_HAVE_CUDA
#include "layers/backend/cuda/cuda.h"
#endif
#include "layers/backend/ref/ref.h"

static int out_size(int size, const struct conv_shape *s)
{
    return (size + 2 * s->pad - s->k) / s->stride + 1;
}

int conv_out_h(const struct conv_shape *shape)
{
    return out_size(shape->h, shape);
}

int conv_out_w(const struct conv_shape *shape)
{
    return out_size(shape->w, shape);
}

size_t conv_in_count(const struct conv_shape *s)
{
    return (size_t)s->n * s->h * s->w * s->c;
}

size_t conv_out_count(const struct conv_shape *s)
{
    return (size_t)s->n * conv_out_h(s) * conv_out_w(s) * s->d;
}

size_t conv_weight_count(const struct conv_shape *s)
{
    return (size_t)s->d * s->k * s->k * s->c;
}

enum status conv_shape_check(const struct conv_shape *s)
{
    enum status status = STATUS_OK;
    if (s->n < 1 || s->h < 1 || s->w < 1 || s->c < 1 || s->d < 1 || s->k < 1 || s->stride < 1 || s->pad < 0)
        FAIL(STATUS_USAGE,
             "convolution of %dx%dx%dx%d by %d %dx%d kernels, stride %d, padding %d: sizes must be positive", s->n,
             s->h, s->w, s->c, s->d, s->k, s->k, s->stride, s->pad);
    if (s->h + 2 * s->pad < s->k || s->w + 2 * s->pad < s->k)
        FAIL(STATUS_USAGE,
             "a %dx%d kernel does not fit into %dx%d with padding %d: the images are too small for this network", s->k,
             s->k, s->h, s->w, s->pad);
fail:
    return status;
}

size_t precision_bytes(enum precision precision)
{
    return precision == PRECISION_BF16 ? 2 : sizeof(float);
}

const char *precision_name(enum precision precision)
{
    static const char *const names[] = { "fp32", "tf32", "bf16" };
    return names[precision];
}

#ifdef CSC_HAVE_CUDA
#define BACKENDS "cpu, cuda"
#else
#define BACKENDS "cpu"
#endif

enum status device_open(struct device **device, const char *kind, enum precision precision, int threads)
{
    enum status status = STATUS_OK;
#ifdef CSC_HAVE_CUDA
    int rank = 0, length = 0;
#endif
    if (threads > DEVICE_MAX_THREADS)
        FAIL(STATUS_USAGE, "%d threads: at most %d can be used", threads, DEVICE_MAX_THREADS);
    if (strcmp(kind, "ref") == 0)
        TRY(ref_open(device, precision, threads));
    else if (strcmp(kind, "cpu") == 0)
        TRY(cpu_open(device, precision, threads));
#ifdef CSC_HAVE_CUDA
    else if (sscanf(kind, "cuda:%d%n", &rank, &length) == 1 && !kind[length])
        TRY(cuda_open(device, rank, precision, threads));
    else if (strcmp(kind, "cuda") == 0)
        TRY(cuda_open(device, 0, precision, threads));
#endif
    else
        FAIL(STATUS_USAGE, "device.kind: this build has no backend '%s' (it has: %s)", kind, BACKENDS);
fail:
    return status;
}

bool device_has_cuda(void)
{
#ifdef CSC_HAVE_CUDA
    return true;
#else
    return false;
#endif
}

enum status device_check_cuda(int rank)
{
#ifdef CSC_HAVE_CUDA
    return cuda_check(rank);
#else
    (void)rank;
    return status_report(STATUS_USAGE, __FILE__, __LINE__, "this build has no CUDA");
#endif
}

enum status device_plan_files(const char *plans, const char *tried)
{
#ifdef CSC_HAVE_CUDA
    return cuda_plan_files(plans, tried);
#else
    (void)plans;
    (void)tried;
    return status_report(STATUS_USAGE, __FILE__, __LINE__,
                         "this build has no CUDA, and so no plans of convolutions to keep");
#endif
}

void device_close(struct device *device)
{
    if (device)
        device->ops->close(device);
}
