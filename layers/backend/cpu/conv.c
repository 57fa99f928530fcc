/* conv.c - the CPU backend's convolutions. Forward, adjoint and gradient are each computed by the first algorithm of
 * the kernel set's list that fits, and by oneDNN where none does.
 * oneDNN knows nothing of epilogues, so its results get one more pass, and its gradients are summed in its packed
 * layout and unpacked once. On a processor without bf16 instructions, which only tests use so, it computes bf16 from
 * operands that are rounded to bf16 and convolved in fp32. */
#include "layers/backend/cpu/conv.h"

#include <stdint.h>
#include <stdlib.h>

#include "layers/backend/cpu/device.h"
#include "layers/backend/cpu/isa/kernels.h"
#include "layers/backend/cpu/onednn.h"

/* How a convolution is computed for one enum conv_use. */
struct planned_use {
    const struct conv_algorithm *algorithm; /* NULL: oneDNN */
    struct onednn_conv *onednn;
    void *packed; /* the weights, for CONV_FORWARD and CONV_ADJOINT; NULL if the algorithm does not pack them */
};

struct cpu_conv {
    struct conv base;
    struct planned_use uses[3]; /* see use_of */
    const float *weights;       /* of the last conv_load */
};

static struct planned_use *use_of(struct cpu_conv *c, enum conv_use use)
{
    return &c->uses[use / 2]; /* 1, 2 or 4 */
}

static const struct kernels *kernels_of(struct cpu_conv *c)
{
    return ((struct cpu_device *)c->base.device)->kernels;
}

/* ---- oneDNN ---- */

/* The scratch of oneDNN's convolutions; what a use does not need is empty. */
struct parts {
    void *onednn;        /* its own */
    float *image, *code; /* bf16: the operands in fp32 */
    float *weights;      /* bf16: the weights, rounded */
    float *result;       /* forward and adjoint: the fp32 result, where it cannot be written to its destination */
    float *sum, *term;   /* gradient: the packed sum, and one term of it */
    float *unpacked;     /* gradient: the sum in the layout of the weights */
};

/* Divides `scratch` into parts, and returns its size in bytes, which is all that happens if it is NULL. */
static size_t divide_scratch(struct cpu_conv *c, enum conv_use use, void *scratch, struct parts *p)
{
    const struct conv_shape *s = &c->base.shape;
    const struct onednn_conv *onednn = use_of(c, use)->onednn;
    struct arena arena = { .memory = scratch, .size = SIZE_MAX };
    bool bf16 = c->base.precision == PRECISION_BF16, gradient = use == CONV_GRADIENT;
    size_t image = conv_in_count(s) * sizeof(float), code = conv_out_count(s) * sizeof(float);
    size_t weights = conv_weight_count(s) * sizeof(float), packed = gradient ? onednn_packed_bytes(onednn) : 0;
    p->onednn = arena_take(&arena, onednn_scratch_bytes(onednn));
    p->image = arena_take(&arena, bf16 && use != CONV_ADJOINT ? image : 0);
    p->code = arena_take(&arena, bf16 && use != CONV_FORWARD ? code : 0);
    p->weights = arena_take(&arena, bf16 && !gradient ? weights : 0);
    p->result = arena_take(&arena, gradient ? 0 : use == CONV_FORWARD ? code : image);
    p->sum = arena_take(&arena, packed);
    p->term = arena_take(&arena, packed);
    p->unpacked = arena_take(&arena, gradient ? weights : 0);
    return arena.used;
}

static enum status load_onednn(struct cpu_conv *c, enum conv_use use, void *scratch)
{
    const float *weights = c->weights;
    struct parts p;
    divide_scratch(c, use, scratch, &p);
    if (c->base.precision == PRECISION_BF16) {
        kernels_of(c)->round_to_bf16(weights, p.weights, conv_weight_count(&c->base.shape));
        weights = p.weights;
    }
    return onednn_pack(use_of(c, use)->onednn, weights, use_of(c, use)->packed, p.onednn);
}

/* The operand in fp32: itself, or of bf16 a copy. */
static const float *float_operand(struct cpu_conv *c, const void *operand, size_t count, float *copy)
{
    if (c->base.precision != PRECISION_BF16)
        return operand;
    kernels_of(c)->widen(operand, copy, count);
    return copy;
}

static enum status run_onednn(struct cpu_conv *c, enum conv_use use, const void *in, void *out,
                              const struct epilogue *e, void *scratch)
{
    enum status status = STATUS_OK;
    bool forward = use == CONV_FORWARD, bf16 = c->base.precision == PRECISION_BF16;
    size_t image = conv_in_count(&c->base.shape), code = conv_out_count(&c->base.shape);
    struct parts p;
    divide_scratch(c, use, scratch, &p);
    float *result = !bf16 && epilogue_can_wait(e, out) ? out : p.result;
    in = float_operand(c, in, forward ? image : code, forward ? p.image : p.code);
    TRY(onednn_run(use_of(c, use)->onednn, in, use_of(c, use)->packed, result, p.onednn));
    if (bf16 || !epilogue_is_identity(e))
        kernels_of(c)->epilogue[c->base.precision](e, result, out, forward ? code : image);
fail:
    return status;
}

/* Writes a term's packed gradient, without alpha, to `packed`. */
static enum status run_term(struct cpu_conv *c, const struct gradient_term *term, const struct parts *p, float *packed)
{
    const float *x = float_operand(c, term->x, conv_in_count(&c->base.shape), p->image);
    const float *d = float_operand(c, term->d, conv_out_count(&c->base.shape), p->code);
    return onednn_run_gradient(use_of(c, CONV_GRADIENT)->onednn, x, d, packed, p->onednn);
}

static enum status gradient_onednn(struct cpu_conv *c, const struct gradient_term *terms, int count, float *dw,
                                   void *scratch)
{
    enum status status = STATUS_OK;
    struct onednn_conv *onednn = use_of(c, CONV_GRADIENT)->onednn;
    struct parts p;
    divide_scratch(c, CONV_GRADIENT, scratch, &p);
    while (count > 0 && terms->alpha == 0) { /* terms are summed in units of the first one's alpha */
        terms++;
        count--;
    }
    if (count == 0)
        return STATUS_OK;
    TRY(run_term(c, &terms[0], &p, p.sum));
    for (int t = 1; t < count; t++) {
        TRY(run_term(c, &terms[t], &p, p.term));
        kernels_of(c)->add_scaled(p.sum, terms[t].alpha / terms[0].alpha, p.term,
                                  onednn_packed_bytes(onednn) / sizeof(float));
    }
    TRY(onednn_unpack(onednn, p.sum, p.unpacked));
    kernels_of(c)->add_scaled(dw, terms[0].alpha, p.unpacked, conv_weight_count(&c->base.shape));
fail:
    return status;
}

/* ---- the choice ---- */

static const struct conv_algorithm *first_that_fits(struct cpu_conv *c, enum conv_use use)
{
    const struct conv_algorithm *const *list = kernels_of(c)->algorithms[c->base.precision];
    while (*list &&
           ((c->base.uses & CONV_GRADIENT && (*list)->only_without_gradient) || !(*list)->fits(&c->base.shape, use)))
        list++;
    return *list;
}

const char *cpu_conv_algorithm(struct conv *conv, enum conv_use use)
{
    const struct planned_use *u = use_of((struct cpu_conv *)conv, use);
    return u->algorithm ? u->algorithm->name : u->onednn ? "oneDNN" : NULL;
}

/* ---- the table ---- */

static void conv_destroy(struct conv *conv)
{
    struct cpu_conv *c = (struct cpu_conv *)conv;
    for (int i = 0; c && i < 3; i++)
        onednn_conv_destroy(c->uses[i].onednn);
    free(c);
}

static enum status conv_create(struct device *device, const struct conv_shape *shape, enum precision precision,
                               unsigned uses, struct conv **conv)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = NULL;
    TRY(conv_shape_check(shape));
    TRY(cpu_plan_channels(device, shape->d)); /* of the norm that follows */
    c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    c->base = (struct conv){ .device = device, .shape = *shape, .precision = precision, .uses = uses };
    for (int use = CONV_FORWARD; use <= CONV_GRADIENT; use *= 2) {
        struct planned_use *u = use_of(c, use);
        if (!(uses & use))
            continue;
        u->algorithm = first_that_fits(c, use);
        if (!u->algorithm)
            TRY(onednn_conv_create(&u->onednn, use, shape));
        size_t bytes = u->algorithm ? u->algorithm->scratch_bytes(shape, use, device->threads)
                                    : divide_scratch(c, use, NULL, &(struct parts){ 0 });
        c->base.scratch = bytes > c->base.scratch ? bytes : c->base.scratch;
    }
    *conv = &c->base;
    c = NULL;
fail:
    conv_destroy((struct conv *)c);
    return status;
}

static void conv_assign_memory(struct conv *conv, struct arena *arena)
{
    for (int use = CONV_FORWARD; use <= CONV_ADJOINT; use *= 2) {
        struct planned_use *u = use_of((struct cpu_conv *)conv, use);
        if (u->onednn)
            u->packed = arena_take(arena, onednn_packed_bytes(u->onednn));
        else if (u->algorithm && u->algorithm->pack)
            u->packed = arena_take(arena, u->algorithm->packed_bytes(&conv->shape, use));
    }
}

static enum status conv_load(struct conv *conv, const float *weights, void *scratch)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = (struct cpu_conv *)conv;
    c->weights = weights;
    for (int use = CONV_FORWARD; use <= CONV_ADJOINT; use *= 2) {
        const struct planned_use *u = use_of(c, use);
        if (u->onednn)
            TRY(load_onednn(c, use, scratch));
        else if (u->algorithm && u->algorithm->pack)
            u->algorithm->pack(&conv->shape, use, weights, u->packed, scratch);
    }
fail:
    return status;
}

static enum status run_use(struct conv *conv, enum conv_use use, const void *in, void *out, const struct epilogue *e,
                           void *scratch)
{
    struct cpu_conv *c = (struct cpu_conv *)conv;
    const struct planned_use *u = use_of(c, use);
    if (!u->algorithm)
        return run_onednn(c, use, in, out, e, scratch);
    u->algorithm->run(&conv->shape, use, in, u->algorithm->pack ? u->packed : c->weights, out, e, conv->device->threads,
                      scratch);
    return STATUS_OK;
}

static enum status conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    return run_use(conv, CONV_FORWARD, in, out, e, scratch);
}

static enum status conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    return run_use(conv, CONV_ADJOINT, in, out, e, scratch);
}

static enum status conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch)
{
    struct cpu_conv *c = (struct cpu_conv *)conv;
    const struct conv_algorithm *algorithm = use_of(c, CONV_GRADIENT)->algorithm;
    if (!algorithm)
        return gradient_onednn(c, terms, count, dw, scratch);
    algorithm->gradient(&conv->shape, terms, count, dw, conv->device->threads, scratch);
    return STATUS_OK;
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
