/* backend.c - shapes of convolutions, and precisions. */
#include "layers/backend/backend.h"

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
