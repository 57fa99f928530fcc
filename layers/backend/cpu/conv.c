/* conv.c - the CPU backend's convolutions.
 * Winograd's transform, the direct kernels and those for a single image take the shapes that they fit, oneDNN all
 * others.
 * Winograd's and direct kernels apply the epilogue as they store. The results of the others get one more pass, and
 * their gradients are summed in oneDNN's packed layout and unpacked once.
 * In bf16 the direct kernels take every shape. On a processor without bf16 instructions, which only tests use so,
 * operands are rounded to bf16 and convolved in fp32. */
#include "layers/backend/cpu/conv.h"

#include <stdlib.h>

#include "layers/backend/cpu/device.h"
#include "layers/backend/cpu/isa/kernels.h"
#include "layers/backend/cpu/onednn.h"

enum { ONEDNN_KINDS = 3 }; /* of enum onednn_kind */

struct cpu_conv {
    struct conv base;
    /* By enum onednn_kind, what computes it; at most one of the three is not NULL. */
    struct onednn_conv *onednn[ONEDNN_KINDS];
    const struct winograd_kernels *winograd[ONEDNN_KINDS];
    const struct direct_kernels *direct[ONEDNN_KINDS];
    bool single_image;          /* kernels->single_image computes forward and adjoint instead */
    const float *weights;       /* of the last conv_load */
    void *packed[ONEDNN_KINDS]; /* the weights, packed for ONEDNN_FORWARD and ONEDNN_ADJOINT */
    bool emulated;              /* bf16 is computed by fp32 convolutions of rounded operands */
};

static const enum conv_use conv_use_of[ONEDNN_KINDS] = { CONV_FORWARD, CONV_ADJOINT, CONV_GRADIENT };
static const enum winograd_use winograd_use_of[ONEDNN_KINDS] = { WINOGRAD_FORWARD, WINOGRAD_ADJOINT,
                                                                 WINOGRAD_GRADIENT };

/* Few channels gain little, which is not worth moving codes across their threshold by the transforms' rounding.
 * Gradients bear that, and need fewer channels. A single image belongs to a power iteration, which would use the
 * transformed weights only twice. */
static bool winograd_fits(const struct winograd_kernels *kernels, const struct conv_shape *s, enum winograd_use use)
{
    int min_channels = use == WINOGRAD_GRADIENT ? 16 : 64;
    return s->k == 3 && s->stride == 1 && s->pad <= 2 && s->n > 1 && s->c >= min_channels && s->d >= min_channels &&
           s->c % kernels->panel == 0 && s->d % kernels->panel == 0;
}

static size_t align_bytes(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static void conv_destroy(struct conv *conv)
{
    struct cpu_conv *c = (struct cpu_conv *)conv;
    for (int kind = 0; c && kind < ONEDNN_KINDS; kind++)
        onednn_conv_destroy(c->onednn[kind]);
    free(c);
}

/* Where the parts of a call's scratch begin, in bytes. The scratch of the kernel that multiplies comes first. */
struct scratch_layout {
    size_t image, code; /* emulated bf16: the operands in fp32 */
    size_t result;      /* forward and adjoint: the fp32 result, where it cannot be written to its destination */
    size_t sum, term;   /* gradient: the packed sum, and one term of it */
    size_t unpacked;    /* gradient: the sum in the layout of the weights */
    size_t weights;     /* while loading: the weights rounded to bf16 */
    size_t bytes;       /* of all parts */
};

static size_t reserve(struct scratch_layout *p, size_t bytes)
{
    size_t at = p->bytes;
    p->bytes += align_bytes(bytes);
    return at;
}

/* Scratch of the kernel that multiplies. */
static size_t kernel_scratch_bytes(const struct cpu_conv *c, enum onednn_kind kind)
{
    const struct kernels *kernels = ((struct cpu_device *)c->base.device)->kernels;
    return c->single_image ? kernels->single_image->scratch_bytes(&c->base.shape)
                           : onednn_scratch_bytes(c->onednn[kind]);
}

static struct scratch_layout scratch_layout_of(const struct cpu_conv *c, enum onednn_kind kind)
{
    const struct conv_shape *s = &c->base.shape;
    struct scratch_layout p = { .bytes = align_bytes(kernel_scratch_bytes(c, kind)) };
    size_t image_bytes = conv_in_count(s) * sizeof(float), code_bytes = conv_out_count(s) * sizeof(float);
    p.image = reserve(&p, !c->emulated || kind == ONEDNN_ADJOINT ? 0 : image_bytes);
    p.code = reserve(&p, !c->emulated || kind == ONEDNN_FORWARD ? 0 : code_bytes);
    if (kind == ONEDNN_GRADIENT) {
        p.sum = reserve(&p, onednn_packed_bytes(c->onednn[kind]));
        p.term = reserve(&p, onednn_packed_bytes(c->onednn[kind]));
        p.unpacked = reserve(&p, conv_weight_count(s) * sizeof(float));
    } else {
        p.result = reserve(&p, kind == ONEDNN_FORWARD ? code_bytes : image_bytes);
        p.weights = align_bytes(kernel_scratch_bytes(c, kind));
        size_t loading = p.weights + (c->emulated ? conv_weight_count(s) * sizeof(float) : 0);
        p.bytes = p.bytes > loading ? p.bytes : loading;
    }
    return p;
}

static enum status conv_create(struct device *device, const struct conv_shape *shape, enum precision precision,
                               unsigned uses, struct conv **conv)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = NULL;
    TRY(conv_shape_check(shape));
    c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    c->base = (struct conv){ .device = device, .shape = *shape, .precision = precision, .uses = uses };
    const struct kernels *kernels = ((struct cpu_device *)device)->kernels;
    const struct winograd_kernels *winograd = kernels->winograd;
    const struct direct_kernels *direct = precision == PRECISION_BF16 ? kernels->bf16 : kernels->few_channels;
    c->emulated = precision == PRECISION_BF16 && !direct;
    c->single_image = precision == PRECISION_FP32 && !(uses & CONV_GRADIENT) && kernels->single_image->fits(shape);
    for (int kind = 0; kind < ONEDNN_KINDS; kind++) {
        if (!(uses & conv_use_of[kind]))
            continue;
        if (precision == PRECISION_FP32 && winograd_fits(winograd, shape, winograd_use_of[kind]))
            c->winograd[kind] = winograd;
        else if (direct && !c->single_image && direct->fits(shape, conv_use_of[kind]))
            c->direct[kind] = direct;
        else if (!c->single_image)
            TRY(onednn_conv_create(&c->onednn[kind], kind, shape));
        size_t bytes = c->direct[kind]     ? direct->scratch_bytes(shape, conv_use_of[kind], device->threads)
                       : c->winograd[kind] ? winograd->scratch_bytes(shape, winograd_use_of[kind], device->threads)
                                           : scratch_layout_of(c, kind).bytes;
        c->base.scratch = bytes > c->base.scratch ? bytes : c->base.scratch;
    }
    cpu_partials(device, shape->d);
    *conv = &c->base;
    c = NULL;
fail:
    conv_destroy((struct conv *)c);
    return status;
}

static void conv_assign_memory(struct conv *conv, struct arena *arena)
{
    struct cpu_conv *c = (struct cpu_conv *)conv;
    for (int kind = ONEDNN_FORWARD; kind <= ONEDNN_ADJOINT && !c->single_image; kind++)
        if (conv->uses & conv_use_of[kind])
            c->packed[kind] = arena_take(arena, c->direct[kind]
                                                    ? c->direct[kind]->packed_bytes(&conv->shape, conv_use_of[kind])
                                                : c->winograd[kind] ? c->winograd[kind]->packed_bytes(&conv->shape)
                                                                    : onednn_packed_bytes(c->onednn[kind]));
}

static enum status conv_load(struct conv *conv, const float *weights, void *scratch)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = (struct cpu_conv *)conv;
    const struct kernels *kernels = ((struct cpu_device *)conv->device)->kernels;
    c->weights = weights;
    for (int kind = ONEDNN_FORWARD; kind <= ONEDNN_ADJOINT && !c->single_image; kind++) {
        if (!(conv->uses & conv_use_of[kind]))
            continue;
        if (c->direct[kind]) {
            c->direct[kind]->pack(&conv->shape, conv_use_of[kind], weights, c->packed[kind]);
            continue;
        }
        if (c->winograd[kind]) {
            c->winograd[kind]->pack(&conv->shape, winograd_use_of[kind], weights, c->packed[kind], scratch);
            continue;
        }
        const float *from = weights;
        if (c->emulated) {
            float *rounded_weights = (float *)((char *)scratch + scratch_layout_of(c, kind).weights);
            kernels->round_to_bf16(weights, rounded_weights, conv_weight_count(&conv->shape));
            from = rounded_weights;
        }
        TRY(onednn_pack(c->onednn[kind], from, c->packed[kind], scratch));
    }
fail:
    return status;
}

static bool is_identity(const struct epilogue *e)
{
    return e->kind == EPILOGUE_LINEAR && e->alpha == 1 && !e->add;
}

/* The operand in fp32: itself, or in emulated bf16 a copy in scratch. */
static const void *float_operand(const struct cpu_conv *c, const void *data, size_t count, char *scratch, size_t at)
{
    if (!c->emulated)
        return data;
    ((struct cpu_device *)c->base.device)->kernels->widen(data, (float *)(scratch + at), count);
    return scratch + at;
}

static enum status run_conv(struct cpu_conv *c, enum onednn_kind kind, const void *in, void *out,
                            const struct epilogue *e, char *scratch)
{
    enum status status = STATUS_OK;
    const struct kernels *kernels = ((struct cpu_device *)c->base.device)->kernels;
    size_t image_count = conv_in_count(&c->base.shape), code_count = conv_out_count(&c->base.shape);
    bool forward = kind == ONEDNN_FORWARD, floats = c->base.precision != PRECISION_BF16;
    if (c->direct[kind]) {
        c->direct[kind]->run(&c->base.shape, conv_use_of[kind], in, c->packed[kind], out, e, c->base.device->threads,
                             scratch);
        return STATUS_OK;
    }
    if (c->winograd[kind]) {
        c->winograd[kind]->run(&c->base.shape, winograd_use_of[kind], in, c->packed[kind], out, e,
                               c->base.device->threads, scratch);
        return STATUS_OK;
    }
    struct scratch_layout p = scratch_layout_of(c, kind);
    float *result = floats && e->add != out && e->mask != out ? out : (float *)(scratch + p.result);
    in = float_operand(c, in, forward ? image_count : code_count, scratch, forward ? p.image : p.code);
    if (c->single_image)
        (forward ? kernels->single_image->forward : kernels->single_image->adjoint)(&c->base.shape, c->weights, in,
                                                                                    result, scratch);
    else
        TRY(onednn_run(c->onednn[kind], in, c->packed[kind], result, scratch));
    if (!floats || !is_identity(e))
        kernels->epilogue[c->base.precision](e, result, out, forward ? code_count : image_count);
fail:
    return status;
}

static enum status conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    return run_conv((struct cpu_conv *)conv, ONEDNN_FORWARD, in, out, e, scratch);
}

static enum status conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    return run_conv((struct cpu_conv *)conv, ONEDNN_ADJOINT, in, out, e, scratch);
}

static enum status run_gradient_term(struct cpu_conv *c, const struct gradient_term *term,
                                     const struct scratch_layout *p, void *packed, char *scratch)
{
    const void *x = float_operand(c, term->x, conv_in_count(&c->base.shape), scratch, p->image);
    const void *d = float_operand(c, term->d, conv_out_count(&c->base.shape), scratch, p->code);
    return onednn_run_gradient(c->onednn[ONEDNN_GRADIENT], x, d, packed, scratch);
}

static enum status conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = (struct cpu_conv *)conv;
    struct onednn_conv *onednn = c->onednn[ONEDNN_GRADIENT];
    const struct kernels *kernels = ((struct cpu_device *)conv->device)->kernels;
    if (c->direct[ONEDNN_GRADIENT]) {
        c->direct[ONEDNN_GRADIENT]->gradient(&conv->shape, terms, count, dw, conv->device->threads, scratch);
        return STATUS_OK;
    }
    if (c->winograd[ONEDNN_GRADIENT]) {
        c->winograd[ONEDNN_GRADIENT]->gradient(&conv->shape, terms, count, dw, conv->device->threads, scratch);
        return STATUS_OK;
    }
    struct scratch_layout p = scratch_layout_of(c, ONEDNN_GRADIENT);
    float *sum = (float *)((char *)scratch + p.sum), *term = (float *)((char *)scratch + p.term);
    float *unpacked = (float *)((char *)scratch + p.unpacked);
    while (count > 0 && terms->alpha == 0) { /* terms are summed in units of the first one's alpha */
        terms++;
        count--;
    }
    if (count == 0)
        return STATUS_OK;
    TRY(run_gradient_term(c, &terms[0], &p, sum, scratch));
    for (int t = 1; t < count; t++) {
        TRY(run_gradient_term(c, &terms[t], &p, term, scratch));
        kernels->add_scaled(sum, terms[t].alpha / terms[0].alpha, term, onednn_packed_bytes(onednn) / sizeof(float));
    }
    TRY(onednn_unpack(onednn, sum, unpacked, scratch));
    kernels->add_scaled(dw, terms[0].alpha, unpacked, conv_weight_count(&conv->shape));
fail:
    return status;
}

void cpu_conv_fill_table(struct backend *table)
{
    table->conv_create = conv_create;
    table->conv_destroy = conv_destroy;
    table->conv_assign_memory = conv_assign_memory;
    table->conv_load = conv_load;
    table->conv_forward = conv_forward;
    table->conv_adjoint = conv_adjoint;
    table->conv_gradient = conv_gradient;
}
