/* conv.c - convolutions of the CUDA backend: a cuDNN plan with the epilogue fused where cuDNN can, else the plain
 * convolution, by cuBLASLt where that is faster, and one own pass. Inputs whose channels are no multiple of 8 are
 * folded (kernels.h). */
#include <stdlib.h>

#include "layers/cuda/gpu.h"

struct cuda_conv {
    struct conv base;
    bool folds;
    struct fold fold;          /* fold.folded: what cuDNN computes */
    void *weights;             /* activations, of the folded shape */
    float *numbers;            /* device (2, DNN_TAILS, 3): factors of fused tails, forward and adjoint */
    float written[2][DNN_TAILS][3]; /* what is there now */
    bool kept[2][DNN_TAILS];   /* and must stay: a recording reads it */
    bool by_gemm;              /* the last call was cuBLASLt's */
    bool rounded[3];           /* by enum dnn_kind: cuDNN has the result in bf16 only, not in fp32 */
    size_t result_at, gradient_at; /* in scratch, fp32; before them the folded image, before gradient_at all images */
};

static struct gpu *gpu_of(const struct conv *conv)
{
    return (struct gpu *)conv->device;
}

static size_t rounded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static void conv_destroy(struct conv *conv)
{
    free(conv);
}

/* Plans what is called most; the fused ones are built when they are first called. */
static enum status make_plans(struct cuda_conv *c)
{
    enum status status = STATUS_OK;
    static const unsigned use_of[] = { CONV_FORWARD, CONV_ADJOINT, CONV_GRADIENT };
    for (enum dnn_kind kind = DNN_FORWARD; kind <= DNN_GRADIENT; kind++) {
        struct dnn_spec spec = { .kind = kind, .shape = c->fold.folded, .precision = c->base.precision,
                                 .float_result = kind == DNN_GRADIENT && c->base.precision == PRECISION_BF16 };
        struct plan plan;
        if (!(c->base.uses & use_of[kind]))
            continue;
        TRY(gpu_plan(gpu_of(&c->base), &spec, &plan));
        if (!gpu_has(&plan) && kind == DNN_GRADIENT && c->base.precision == PRECISION_BF16) {
            spec.float_result = false;
            c->rounded[kind] = true;
            TRY(gpu_plan(gpu_of(&c->base), &spec, &plan));
        }
        if (!gpu_has(&plan))
            FAIL(STATUS_USAGE, "cuDNN has no %s convolution of %dx%dx%dx%d by %d %dx%d kernels, stride %d, in %s",
                 kind == DNN_FORWARD ? "forward" : kind == DNN_ADJOINT ? "backward-data" : "backward-filter", spec.shape.n,
                 spec.shape.h, spec.shape.w, spec.shape.c, spec.shape.d, spec.shape.k, spec.shape.k, spec.shape.stride,
                 precision_name(spec.precision));
    }
fail:
    return status;
}

/* Of a gradient, as make_plans found that cuDNN has it. */
static struct dnn_spec gradient_spec(const struct cuda_conv *c, int terms)
{
    struct dnn_spec spec = { .kind = DNN_GRADIENT, .shape = c->fold.folded, .precision = c->base.precision,
                             .float_result = !c->rounded[DNN_GRADIENT] && c->base.precision == PRECISION_BF16 };
    spec.shape.n *= terms;
    return spec;
}

/* cuDNN wants tensors at multiples of 16 bytes. Folded images are stacked as they are folded. */
static enum status choose_stacks(struct cuda_conv *c)
{
    enum status status = STATUS_OK;
    struct conv *base = &c->base;
    size_t one = precision_bytes(base->precision), image = conv_in_count(&base->shape) * one;
    size_t code = conv_out_count(&base->shape) * one;
    struct dnn_spec spec = gradient_spec(c, 1);
    if (!(base->uses & CONV_STACKED) || code % 16 != 0 || (!c->folds && image % 16 != 0))
        return STATUS_OK;
    TRY(gpu_stacks(gpu_of(base), &spec, !c->folds, &base->stacks));
    base->stacks_inputs = base->stacks && !c->folds;
fail:
    return status;
}

static enum status conv_create(struct device *device, const struct conv_shape *shape, enum precision precision,
                               unsigned uses, struct conv **conv)
{
    enum status status = STATUS_OK;
    struct cuda_conv *c = NULL;
    TRY(conv_shape_check(shape));
    c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    c->base = (struct conv){ .device = device, .shape = *shape, .precision = precision, .uses = uses };
    c->fold = kernel_fold_shape(shape);
    c->folds = shape->c % 8 != 0;
    if (!c->folds)
        c->fold.folded = *shape;
    const struct conv_shape *s = &c->fold.folded;
    size_t in = conv_in_count(s), out = conv_out_count(s);
    c->result_at = c->folds ? rounded(in * precision_bytes(precision)) : 0;
    TRY(make_plans(c));
    TRY(choose_stacks(c));
    size_t stack = c->folds && c->base.stacks ? CONV_TERMS * in * precision_bytes(precision) : 0;
    c->gradient_at = c->result_at + rounded((in > out ? in : out) * sizeof(float));
    c->gradient_at = c->gradient_at > stack ? c->gradient_at : rounded(stack);
    c->base.scratch = c->gradient_at + (uses & CONV_GRADIENT ? 2 * rounded(conv_weight_count(s) * sizeof(float)) : 0);
    *conv = &c->base;
    c = NULL;
fail:
    free(c);
    return status;
}

static void conv_place(struct conv *conv, struct arena *arena)
{
    struct cuda_conv *c = (struct cuda_conv *)conv;
    c->weights = arena_take(arena, conv_weight_count(&c->fold.folded) * precision_bytes(conv->precision));
    c->numbers = arena_take(arena, sizeof c->written);
}

static enum status failed_before(const struct conv *conv)
{
    return status_restore(&gpu_of(conv)->failure);
}

static enum status conv_load(struct conv *conv, const float *weights, void *scratch)
{
    struct cuda_conv *c = (struct cuda_conv *)conv;
    struct queue q = cuda_conv_queue(conv);
    (void)scratch;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return failed_before(conv);
    if (c->folds)
        kernel_fold_weights(&q, &c->fold, weights, c->weights);
    else
        kernel_to_activation(&q, weights, c->weights, conv_weight_count(&conv->shape));
    return STATUS_OK;
}

/* The fused form of an epilogue; DNN_TAILS: there is none. */
static enum dnn_tail tail_of(const struct epilogue *e, const void *out)
{
    if (e->add && e->add != out && e->beta == -1 && e->kind == EPILOGUE_LINEAR)
        return DNN_SUBTRACT;
    if (e->add && (e->beta != 1 || e->add == out))
        return DNN_TAILS;
    if (e->kind == EPILOGUE_LINEAR)
        return e->add ? DNN_ADD : e->alpha == 1 && !e->numbers ? DNN_PLAIN : DNN_SCALE;
    if (e->kind == EPILOGUE_SHRINK)
        return !e->nonnegative ? DNN_TAILS : e->add ? DNN_SHRINK_ADD : DNN_SHRINK;
    return e->add && e->mask != out ? DNN_MASK_ADD : DNN_TAILS;
}

/* The factors that a fused tail reads: the caller's, or own ones, written again only when they have changed. NULL: they must
 * not change any more. */
static const float *numbers_for(struct cuda_conv *c, const struct queue *q, enum dnn_kind kind, enum dnn_tail tail,
                                const struct epilogue *e)
{
    float *to = c->numbers + (kind * DNN_TAILS + tail) * 3, *was = c->written[kind][tail];
    float nu = tail >= DNN_SHRINK ? e->nu : 1, threshold = e->kind == EPILOGUE_SHRINK ? e->threshold : 0;
    if (e->numbers)
        return e->numbers;
    bool same = was[0] == e->alpha && was[1] == nu && was[2] == threshold;
    if (gpu_of(&c->base)->recording) {
        c->kept[kind][tail] = true;
        if (!same)
            gpu_cannot_record(gpu_of(&c->base), "factors of a convolution that change from call to call");
    } else if (!same && c->kept[kind][tail]) {
        return NULL;
    } else if (!same) {
        kernel_numbers(q, to, e->alpha, nu, threshold);
        was[0] = e->alpha, was[1] = nu, was[2] = threshold;
    }
    return to;
}

/* image and code of the folded shape; the result is one of them, or weights. *done: whether cuDNN has a plan for it. */
static enum status run_spec(struct cuda_conv *c, const struct dnn_spec *spec, struct dnn_operands *operands, bool *done)
{
    enum status status = STATUS_OK;
    struct gpu *gpu = gpu_of(&c->base);
    struct plan plan;
    TRY(gpu_plan(gpu, spec, &plan));
    *done = gpu_has(&plan);
    c->by_gemm = plan.gemm != NULL;
    operands->weights = operands->weights ? operands->weights : c->weights;
    if (*done)
        TRY(gpu_run(gpu, &plan, operands));
fail:
    return status;
}

static enum status run(struct cuda_conv *c, enum dnn_kind kind, enum dnn_tail tail, bool float_result,
                       struct dnn_operands *operands, bool *done)
{
    const struct dnn_spec spec = { .kind = kind, .tail = tail, .shape = c->fold.folded, .precision = c->base.precision,
                                   .float_result = float_result && c->base.precision == PRECISION_BF16 };
    return run_spec(c, &spec, operands, done);
}

/* The plain convolution for a pass of ours that follows: in fp32, so that it is rounded once, or as cuDNN can. */
static enum status run_plain(struct cuda_conv *c, enum dnn_kind kind, struct dnn_operands *operands, enum element *type)
{
    enum status status = STATUS_OK;
    bool done = false;
    if (!c->rounded[kind])
        TRY(run(c, kind, DNN_PLAIN, true, operands, &done));
    if (!done) {
        c->rounded[kind] = true;
        TRY(run(c, kind, DNN_PLAIN, false, operands, &done));
    }
    *type = !c->rounded[kind] || c->base.precision != PRECISION_BF16 ? F32 : BF16;
fail:
    return status;
}

/* A convolution whose result has the plain layout: fused, or plain and then the epilogue. */
static enum status run_with(struct cuda_conv *c, enum dnn_kind kind, const void *in, void *out, const struct epilogue *e,
                            char *scratch)
{
    enum status status = STATUS_OK;
    struct queue q = cuda_conv_queue(&c->base);
    enum dnn_tail tail = tail_of(e, out);
    const struct conv_shape *s = &c->fold.folded;
    size_t count = kind == DNN_FORWARD ? conv_out_count(s) : conv_in_count(s);
    int channels = kind == DNN_FORWARD ? s->d : s->c;
    bool done = false;
    const float *numbers = tail == DNN_PLAIN || tail == DNN_TAILS ? NULL : numbers_for(c, &q, kind, tail, e);
    if (tail != DNN_TAILS && (numbers || tail == DNN_PLAIN)) {
        struct dnn_operands fused = { .image = kind == DNN_FORWARD ? in : out, .code = kind == DNN_FORWARD ? out : in,
                                      .add = e->add, .mask = e->kind == EPILOGUE_MASK ? e->mask : NULL, .numbers = numbers };
        TRY(run(c, kind, tail, false, &fused, &done));
        c->base.how = c->by_gemm ? "cuBLASLt" : "one pass";
    }
    if (!done) {
        enum element type;
        void *result = scratch + c->result_at;
        struct dnn_operands plain = { .image = kind == DNN_FORWARD ? in : result,
                                      .code = kind == DNN_FORWARD ? result : in };
        TRY(run_plain(c, kind, &plain, &type));
        cuda_epilogue(&c->base, e, type, result, out, count / channels, channels);
        c->base.how = c->by_gemm ? "cuBLASLt, own pass after" : "own pass after";
    }
fail:
    return status;
}

static const void *folded(struct cuda_conv *c, const struct queue *q, const void *in, void *scratch)
{
    if (!c->folds)
        return in;
    kernel_fold_image(q, &c->fold, in, scratch);
    return scratch;
}

static enum status conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    struct cuda_conv *c = (struct cuda_conv *)conv;
    struct queue q = cuda_conv_queue(conv);
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return failed_before(conv);
    return run_with(c, DNN_FORWARD, folded(c, &q, in, scratch), out, e, scratch);
}

static enum status conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    enum status status = STATUS_OK;
    struct cuda_conv *c = (struct cuda_conv *)conv;
    struct queue q = cuda_conv_queue(conv);
    enum element type;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return failed_before(conv);
    if (!c->folds)
        return run_with(c, DNN_ADJOINT, in, out, e, scratch);
    struct dnn_operands plain = { .image = (char *)scratch + c->result_at, .code = in };
    TRY(run_plain(c, DNN_ADJOINT, &plain, &type));
    kernel_unfold_image(&q, &c->fold, type, plain.image, e, out);
    conv->how = c->by_gemm ? "cuBLASLt, unfolded after" : "unfolded after";
fail:
    return status;
}

static bool are_stacked(const struct cuda_conv *c, const struct gradient_term *terms, int count)
{
    const struct conv_shape *s = &c->base.shape;
    size_t image = conv_in_count(s) * precision_bytes(c->base.precision);
    size_t code = conv_out_count(s) * precision_bytes(c->base.precision);
    bool stacked = c->base.stacks && count == CONV_TERMS;
    for (int t = 1; t < count && stacked; t++)
        stacked = terms[t].alpha == terms->alpha && terms[t].number == terms->number &&
                  (const char *)terms[t].d == (const char *)terms->d + t * code &&
                  (c->folds || (const char *)terms[t].x == (const char *)terms->x + t * image);
    return stacked;
}

/* dw += these terms, which are one, or stacked. */
static enum status add_gradient(struct cuda_conv *c, const struct gradient_term *terms, int count, float *dw,
                                char *scratch)
{
    enum status status = STATUS_OK;
    struct queue q = cuda_conv_queue(&c->base);
    size_t weights = conv_weight_count(&c->fold.folded);
    size_t image = conv_in_count(&c->fold.folded) * precision_bytes(c->base.precision);
    float *gradient = (float *)(scratch + c->gradient_at);
    bool as_bf16 = c->rounded[DNN_GRADIENT], done;
    void *as_given = as_bf16 ? (char *)gradient + rounded(weights * sizeof(float)) : (void *)gradient;
    struct dnn_operands operands = { .image = c->folds ? scratch : terms->x, .code = terms->d, .weights = as_given };
    const struct dnn_spec spec = gradient_spec(c, count);
    for (int t = 0; t < count && c->folds; t++)
        kernel_fold_image(&q, &c->fold, terms[t].x, scratch + t * image);
    TRY(run_spec(c, &spec, &operands, &done));
    if (as_bf16)
        kernel_from_activation(&q, as_given, gradient, weights);
    if (c->folds)
        kernel_unfold_gradient(&q, &c->fold, gradient, terms->alpha, terms->number, dw);
    else
        kernel_add_gradient(&q, gradient, terms->alpha, terms->number, dw, weights);
fail:
    return status;
}

static enum status conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch)
{
    enum status status = STATUS_OK;
    struct cuda_conv *c = (struct cuda_conv *)conv;
    bool together = are_stacked(c, terms, count);
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return failed_before(conv);
    for (int t = 0; t < count; t += together ? count : 1)
        TRY(add_gradient(c, terms + t, together ? count : 1, dw, scratch));
    if (together)
        conv->how = c->by_gemm ? "cuBLASLt, one call" : "one call";
    else
        conv->how = c->by_gemm ? "cuBLASLt" : c->folds ? "unfolded after" : count > 1 ? "added after" : NULL;
fail:
    return status;
}

void gpu_fill_conv(struct backend *table)
{
    table->conv_create = conv_create;
    table->conv_destroy = conv_destroy;
    table->conv_place = conv_place;
    table->conv_load = conv_load;
    table->conv_forward = conv_forward;
    table->conv_adjoint = conv_adjoint;
    table->conv_gradient = conv_gradient;
}
