/* emulated.c - the emulated device: table and kernels of the CUDA backend over the host's memory. Its
 * convolutions are the plain ones in fp32, between the CUDA backend's own passes: strided ones and those of odd
 * channels are folded, weights and activations rounded to the device's precision, results finished by the epilogue. */
#include "tests/layers/emulated.h"

#include <stdlib.h>
#include <string.h>

#ifdef CSC_HAVE_EMULATION
#include "layers/cuda/device.h"
#include "layers/ref/ref.h"

struct emulated_conv {
    struct conv base;
    bool folds;
    struct fold fold;       /* folded is the plain shape if nothing folds */
    struct conv *plain;     /* of the folded shape, in fp32 */
    void *plain_weights, *rounded; /* its memory; weights as activations */
    float *in, *out, *dw;   /* of the folded shape */
    void *image;            /* folded, activations */
};

static size_t element_bytes(const struct conv *conv)
{
    return precision_bytes(conv->precision);
}

static void conv_destroy(struct conv *conv)
{
    struct emulated_conv *c = (struct emulated_conv *)conv;
    if (!c)
        return;
    ref_conv_destroy(c->plain);
    free(c->plain_weights);
    free(c->rounded);
    free(c->in);
    free(c->out);
    free(c->dw);
    free(c->image);
    free(c);
}

static enum status conv_create(struct device *device, const struct conv_shape *shape, enum precision precision,
                               unsigned uses, struct conv **conv)
{
    enum status status = STATUS_OK;
    struct emulated_conv *c = NULL;
    struct arena measure = { 0 };
    TRY(conv_shape_check(shape));
    c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    c->base = (struct conv){ .device = device, .shape = *shape, .precision = precision, .uses = uses };
    c->folds = shape->stride > 1 || shape->c % 8 != 0;
    c->fold = kernel_fold_shape(shape);
    if (!c->folds)
        c->fold.folded = *shape;
    const struct conv_shape *s = &c->fold.folded;
    TRY(ref_conv_create(device, s, PRECISION_FP32, uses, &c->plain));
    c->base.scratch = c->plain->scratch;
    ref_conv_place(c->plain, &measure);
    c->plain_weights = aligned_alloc(ARENA_ALIGN, measure.used);
    c->rounded = malloc(conv_weight_count(s) * sizeof(float));
    c->in = malloc(conv_in_count(s) * sizeof(float));
    c->out = malloc(conv_out_count(s) * sizeof(float));
    c->dw = malloc(conv_weight_count(s) * sizeof(float));
    c->image = malloc(conv_in_count(s) * sizeof(float));
    if (!c->plain_weights || !c->rounded || !c->in || !c->out || !c->dw || !c->image)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    measure = (struct arena){ .memory = c->plain_weights, .size = measure.used };
    ref_conv_place(c->plain, &measure);
    *conv = &c->base;
    c = NULL;
fail:
    conv_destroy((struct conv *)c);
    return status;
}

static void conv_place(struct conv *conv, struct arena *arena)
{
    arena_take(arena, element_bytes(conv));
}

static enum status conv_load(struct conv *conv, const float *weights, void *scratch)
{
    struct emulated_conv *c = (struct emulated_conv *)conv;
    struct queue q = cuda_conv_queue(conv);
    size_t count = conv_weight_count(&c->fold.folded);
    if (c->folds)
        kernel_fold_weights(&q, &c->fold, weights, c->rounded);
    else
        kernel_to_activation(&q, weights, c->rounded, count);
    kernel_from_activation(&q, c->rounded, c->dw, count);
    return ref_conv_load(c->plain, c->dw, scratch);
}

/* in as floats of the folded shape. */
static void take_in(struct emulated_conv *c, const struct queue *q, const void *in)
{
    const void *image = in;
    if (c->folds) {
        kernel_fold_image(q, &c->fold, in, c->image);
        image = c->image;
    }
    kernel_from_activation(q, image, c->in, conv_in_count(&c->fold.folded));
}

static enum status conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    enum status status = STATUS_OK;
    struct emulated_conv *c = (struct emulated_conv *)conv;
    const struct conv_shape *s = &c->fold.folded;
    const struct epilogue plain = { .alpha = 1 };
    struct queue q = cuda_conv_queue(conv);
    take_in(c, &q, in);
    TRY(ref_conv_forward(c->plain, c->in, c->out, &plain, scratch));
    cuda_epilogue(conv, e, F32, c->out, out, conv_out_count(s) / s->d, s->d);
fail:
    return status;
}

static enum status conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    enum status status = STATUS_OK;
    struct emulated_conv *c = (struct emulated_conv *)conv;
    const struct conv_shape *s = &c->fold.folded;
    const struct epilogue plain = { .alpha = 1 };
    struct queue q = cuda_conv_queue(conv);
    kernel_from_activation(&q, in, c->out, conv_out_count(s));
    TRY(ref_conv_adjoint(c->plain, c->out, c->in, &plain, scratch));
    if (c->folds)
        kernel_unfold_image(&q, &c->fold, F32, c->in, e, out);
    else
        cuda_epilogue(conv, e, F32, c->in, out, conv_in_count(s) / s->c, s->c);
fail:
    return status;
}

static enum status conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch)
{
    enum status status = STATUS_OK;
    struct emulated_conv *c = (struct emulated_conv *)conv;
    const struct conv_shape *s = &c->fold.folded;
    struct queue q = cuda_conv_queue(conv);
    for (int t = 0; t < count; t++) {
        const struct gradient_term unit = { c->in, c->out, 1 };
        take_in(c, &q, terms[t].x);
        kernel_from_activation(&q, terms[t].d, c->out, conv_out_count(s));
        memset(c->dw, 0, conv_weight_count(s) * sizeof *c->dw);
        TRY(ref_conv_gradient(c->plain, &unit, 1, c->dw, scratch));
        if (c->folds)
            kernel_unfold_gradient(&q, &c->fold, c->dw, terms[t].alpha, dw);
        else
            kernel_lincomb(&q, 1, dw, terms[t].alpha, c->dw, dw, conv_weight_count(s));
    }
fail:
    return status;
}

void *cuda_staging(struct cuda_device *device, size_t bytes)
{
    if (bytes > device->staging_bytes) {
        free(device->staging);
        device->staging = malloc(bytes);
        device->staging_bytes = bytes;
    }
    return device->staging;
}

static void close_device(struct device *device)
{
    struct cuda_device *d = (struct cuda_device *)device;
    free(d->queue.partials);
    free(d->result);
    free(d->staging);
    free(d);
}

static enum status emulated_open(struct device **device, enum precision precision)
{
    enum status status = STATUS_OK;
    struct cuda_device *d = calloc(1, sizeof *d);
    if (!d)
        FAIL(STATUS_NOMEM, "out of memory");
    d->table = ref_backend;
    d->table.name = "emulated";
    d->table.close = close_device;
    cuda_fill_table(&d->table);
    d->table.conv_create = conv_create;
    d->table.conv_destroy = conv_destroy;
    d->table.conv_place = conv_place;
    d->table.conv_load = conv_load;
    d->table.conv_forward = conv_forward;
    d->table.conv_adjoint = conv_adjoint;
    d->table.conv_gradient = conv_gradient;
    d->base = (struct device){ .ops = &d->table, .precision = precision, .threads = 1 };
    d->queue.type = precision == PRECISION_BF16 ? BF16 : F32;
    d->queue.partials = malloc(KERNELS_PARTIAL_BYTES);
    d->result = malloc(CUDA_RESULTS * sizeof *d->result);
    if (!d->queue.partials || !d->result)
        FAIL(STATUS_NOMEM, "out of memory");
    *device = &d->base;
    d = NULL;
fail:
    if (d)
        close_device(&d->base);
    return status;
}
#endif

const char *any_device_missing(const char *kind)
{
    return strncmp(kind, "cuda", 4) == 0 && device_check_cuda(0) != STATUS_OK ? status_message() : NULL;
}

enum status any_device_open(struct device **device, const char *kind, enum precision precision, int threads)
{
#ifdef CSC_HAVE_EMULATION
    if (strcmp(kind, "emulated") == 0)
        return emulated_open(device, precision);
#endif
    return device_open(device, kind, precision, threads);
}
