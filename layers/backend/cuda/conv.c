/* conv.c - convolutions of the CUDA backend: a cuDNN plan with the epilogue fused where cuDNN can, else the plain
 * convolution, by cuBLASLt where that is faster, and one own pass. Inputs whose channels are no multiple of 8 are
 * folded (kernels.h). */
#include <stdlib.h>
#include <string.h>

#include "layers/backend/cuda/gpu.h"

enum {
    MAX_SPECS = 7,
    SCALAR_SETS = 8
}; /* calls that are planned ahead; factors of fused tails that are kept on the device */

struct cuda_conv {
    struct conv base;
    bool folds;
    struct fold fold;        /* fold.folded: what cuDNN computes */
    void *converted_weights; /* activations, of the folded shape; NULL: floats are used where they are */
    const void *weights;     /* own, or the loaded ones */
    float *numbers;          /* device (SCALAR_SETS, 3): alpha, nu, threshold of fused tails */
    struct scalar_set {
        float values[3];     /* what is there now */
        bool used, captured; /* kept: it must stay, a recording reads it */
    } scalar_sets[SCALAR_SETS];
    int next_set;        /* that is written */
    char *folded_inputs; /* with KEEPING, folded images of the last forward calls; NULL: none */
    const void *folded_input_of[CONV_TERMS];
    int next_folded_input;
    bool used_cublas;        /* the last call was cuBLASLt's */
    const char *fused_label; /* of the last call's plan, if it was fused */
    bool stores_bf16[2];     /* by enum dnn_kind: cuDNN has the result in bf16 only, not in fp32 */
    size_t result_offset,
        gradient_offset; /* in scratch, fp32; before them the folded image, before gradient_at all images */
};

static struct gpu *gpu_of(const struct conv *conv)
{
    return (struct gpu *)conv->device;
}

static size_t align256(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* Elements of the image that cuDNN sees. */
static size_t image_count(const struct cuda_conv *c)
{
    return conv_in_count(&c->fold.folded);
}

static size_t weight_count(const struct cuda_conv *c)
{
    return c->folds ? kernel_fold_weight_count(&c->fold) : conv_weight_count(&c->base.shape);
}

/* Bytes from one term's gradient to the next. */
static size_t gradient_bytes(const struct cuda_conv *c)
{
    return align256(weight_count(c) * sizeof(float));
}

/* Written and read again, what is no operand. */
static void count_extra_traffic(struct cuda_conv *c, size_t elements, size_t bytes_each)
{
    c->base.beyond += 2.0 * (double)(elements * bytes_each);
}

static void conv_destroy(struct conv *conv)
{
    free(conv);
}

static struct dnn_spec spec_of(const struct cuda_conv *c, enum dnn_kind kind, enum dnn_epilogue epilogue)
{
    return (struct dnn_spec){ .kind = kind,
                              .epilogue = epilogue,
                              .shape = c->fold.folded,
                              .precision = c->base.precision,
                              .k_by_1 = c->folds && c->fold.k_by_1 };
}

/* Of a gradient's terms, whose plan may store fp32 or bf16. */
static struct dnn_spec gradient_spec(const struct cuda_conv *c, int terms)
{
    struct dnn_spec spec = spec_of(c, DNN_GRADIENT, DNN_PLAIN);
    spec.shape.n *= terms;
    return spec;
}

/* All that will be called, but for what only diagnoses call: a recording finds its plans, and all ranks those of the
 * first. */
static int list_specs(const struct cuda_conv *c, struct dnn_spec *specs)
{
    static const struct {
        unsigned uses;
        enum dnn_kind kind;
        enum dnn_epilogue epilogue;
    } calls[MAX_SPECS] = {
        { CONV_FORWARD, DNN_FORWARD, DNN_PLAIN },
        { CONV_ADJOINT, DNN_ADJOINT, DNN_PLAIN },
        { CONV_GRADIENT, DNN_GRADIENT, DNN_PLAIN },
        { CONV_FORWARD | CONV_CODING, DNN_FORWARD, DNN_SHRINK },
        { CONV_FORWARD | CONV_CODING, DNN_FORWARD, DNN_SHRINK_ADD },
        { CONV_FORWARD | CONV_CODING | CONV_GRADIENT, DNN_FORWARD, DNN_MASK_ADD },
        { CONV_ADJOINT | CONV_ADDING, DNN_ADJOINT, DNN_ADD },
    };
    int count = 0;
    for (int i = 0; i < MAX_SPECS; i++) {
        bool fused = calls[i].kind == DNN_ADJOINT && calls[i].epilogue != DNN_PLAIN;
        if ((c->base.uses & calls[i].uses) == calls[i].uses && !(fused && c->folds))
            specs[count++] = spec_of(c, calls[i].kind, calls[i].epilogue);
    }
    return count;
}

static enum status make_plans(struct cuda_conv *c)
{
    enum status status = STATUS_OK;
    struct dnn_spec specs[MAX_SPECS];
    int count = list_specs(c, specs);
    TRY(gpu_prepare_plans(gpu_of(&c->base), specs, count));
    for (int i = 0; i < count; i++) {
        const struct dnn_spec *spec = &specs[i];
        const struct conv_shape *s = &spec->shape;
        struct plan plan;
        TRY(gpu_get_plan(gpu_of(&c->base), spec, &plan));
        if (!gpu_plan_exists(&plan) && spec->epilogue == DNN_PLAIN)
            FAIL(STATUS_USAGE, "cuDNN has no %s convolution of %dx%dx%dx%d by %d %dx%d kernels, stride %d, in %s",
                 spec->kind == DNN_FORWARD   ? "forward"
                 : spec->kind == DNN_ADJOINT ? "backward-data"
                                             : "backward-filter",
                 s->n, s->h, s->w, s->c, s->d, s->k, spec->k_by_1 ? 1 : s->k, s->stride,
                 precision_name(spec->precision));
    }
fail:
    return status;
}

/* Folded images are many times as large as what is folded: written once where they are read twice. */
static bool keeps_folded_inputs(const struct cuda_conv *c)
{
    return c->folds && (c->base.uses & CONV_KEEPING);
}

static size_t folded_bytes(const struct cuda_conv *c)
{
    return align256(image_count(c) * precision_bytes(c->base.precision));
}

/* cuDNN wants tensors at multiples of 16 bytes. Folded images are stacked as they are folded. */
static enum status choose_stacking(struct cuda_conv *c)
{
    enum status status = STATUS_OK;
    struct conv *base = &c->base;
    size_t one = precision_bytes(base->precision), image = conv_in_count(&base->shape) * one;
    size_t code = conv_out_count(&base->shape) * one;
    struct dnn_spec spec = gradient_spec(c, 1);
    if (!(base->uses & CONV_STACKED) || keeps_folded_inputs(c) || code % 16 != 0 || (!c->folds && image % 16 != 0))
        return STATUS_OK;
    TRY(gpu_choose_stacking(gpu_of(base), &spec, !c->folds, &base->stacks));
    base->stacks_inputs = base->stacks && !c->folds;
    const struct dnn_spec used[] = { spec_of(c, DNN_ADJOINT, DNN_SCALE), spec_of(c, DNN_ADJOINT, DNN_SUBTRACT) };
    if (base->stacks && !c->folds)
        TRY(gpu_prepare_plans(gpu_of(base), used, 2));
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
    size_t in = image_count(c), out = conv_out_count(shape);
    c->result_offset = c->folds ? align256(in * precision_bytes(precision)) : 0;
    TRY(make_plans(c));
    TRY(choose_stacking(c));
    size_t stack = c->folds && c->base.stacks ? CONV_TERMS * in * precision_bytes(precision) : 0;
    c->gradient_offset = c->result_offset + align256((in > out ? in : out) * sizeof(float));
    c->gradient_offset = c->gradient_offset > stack ? c->gradient_offset : align256(stack);
    c->base.scratch = c->gradient_offset + (uses & CONV_GRADIENT ? CONV_TERMS * gradient_bytes(c) : 0);
    *conv = &c->base;
    c = NULL;
fail:
    free(c);
    return status;
}

static void conv_place(struct conv *conv, struct arena *arena)
{
    struct cuda_conv *c = (struct cuda_conv *)conv;
    bool converts = c->folds || conv->precision == PRECISION_BF16;
    c->converted_weights = converts ? arena_take(arena, weight_count(c) * precision_bytes(conv->precision)) : NULL;
    c->numbers = arena_take(arena, SCALAR_SETS * 3 * sizeof *c->numbers);
    if (keeps_folded_inputs(c))
        c->folded_inputs = arena_take(arena, CONV_TERMS * folded_bytes(c));
}

static enum status earlier_failure(const struct conv *conv)
{
    return status_restore(&gpu_of(conv)->failure);
}

static enum status conv_load(struct conv *conv, const float *weights, void *scratch)
{
    struct cuda_conv *c = (struct cuda_conv *)conv;
    struct queue q = cuda_conv_queue(conv);
    (void)scratch;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return earlier_failure(conv);
    c->weights = c->converted_weights ? c->converted_weights : (const void *)weights;
    if (c->folds)
        kernel_fold_weights(&q, &c->fold, weights, c->converted_weights);
    else if (c->converted_weights)
        kernel_to_activation(&q, weights, c->converted_weights, conv_weight_count(&conv->shape));
    return STATUS_OK;
}

/* The fused form of an epilogue; DNN_NOT_FUSED: there is none. */
static enum dnn_epilogue fused_epilogue(const struct epilogue *e, const void *out)
{
    if (e->add && e->add != out && e->beta == -1 && e->kind == EPILOGUE_LINEAR)
        return DNN_SUBTRACT;
    if (e->add && (e->beta != 1 || (e->add == out && e->kind != EPILOGUE_LINEAR)))
        return DNN_NOT_FUSED;
    if (e->kind == EPILOGUE_LINEAR)
        return e->add ? DNN_ADD : e->alpha == 1 && !e->numbers ? DNN_PLAIN : DNN_SCALE;
    if (e->kind == EPILOGUE_SHRINK)
        return !e->nonnegative ? DNN_NOT_FUSED : e->add ? DNN_SHRINK_ADD : DNN_SHRINK;
    return e->add && e->mask != out ? DNN_MASK_ADD : DNN_NOT_FUSED;
}

/* The factors that a fused tail reads: the caller's, or own ones, which are written when they are new. NULL: there is
 * no room for them. */
static const float *scalars_for(struct cuda_conv *c, const struct queue *q, enum dnn_epilogue epilogue,
                                const struct epilogue *e)
{
    const float values[] = { e->alpha, epilogue >= DNN_SHRINK ? e->nu : 1,
                             e->kind == EPILOGUE_SHRINK ? e->threshold : 0 };
    struct gpu *gpu = gpu_of(&c->base);
    if (e->numbers)
        return e->numbers;
    for (int i = 0; i < SCALAR_SETS; i++) {
        struct scalar_set *f = &c->scalar_sets[i];
        if (f->used && memcmp(f->values, values, sizeof values) == 0) {
            f->captured |= gpu->capturing;
            return c->numbers + 3 * i;
        }
    }
    if (gpu->capturing) {
        gpu_fail_capture(gpu, "factors of a convolution that are new");
        return c->numbers;
    }
    for (int i = 0; i < SCALAR_SETS; i++) {
        int at = (c->next_set + i) % SCALAR_SETS;
        if (c->scalar_sets[at].captured)
            continue;
        kernel_numbers(q, c->numbers + 3 * at, values[0], values[1], values[2]);
        memcpy(c->scalar_sets[at].values, values, sizeof values);
        c->scalar_sets[at].used = true;
        c->next_set = (at + 1) % SCALAR_SETS;
        return c->numbers + 3 * at;
    }
    return NULL;
}

/* image and code of the folded shape; the result is one of them, or weights. *done: whether cuDNN has a plan for it. */
static enum status run_spec(struct cuda_conv *c, const struct dnn_spec *spec, struct dnn_operands *operands, bool *done)
{
    enum status status = STATUS_OK;
    struct gpu *gpu = gpu_of(&c->base);
    struct plan plan;
    TRY(gpu_get_plan(gpu, spec, &plan));
    *done = gpu_plan_exists(&plan);
    c->used_cublas = plan.gemm != NULL;
    c->fused_label = plan.label;
    operands->weights = operands->weights ? operands->weights : c->weights;
    if (*done)
        TRY(gpu_run_plan(gpu, &plan, operands));
fail:
    return status;
}

static enum status run(struct cuda_conv *c, enum dnn_kind kind, enum dnn_epilogue epilogue, bool float_result,
                       struct dnn_operands *operands, bool *done)
{
    struct dnn_spec spec = spec_of(c, kind, epilogue);
    spec.float_result = float_result && c->base.precision == PRECISION_BF16;
    return run_spec(c, &spec, operands, done);
}

/* The plain convolution for a pass of ours that follows: in fp32, so that it is rounded once, or as cuDNN can. Of a
 * folded image in bf16, since twice the bytes cost more there than all the rest. */
static enum status run_plain(struct cuda_conv *c, enum dnn_kind kind, struct dnn_operands *operands, enum element *type)
{
    enum status status = STATUS_OK;
    bool done = false;
    c->stores_bf16[kind] |= c->folds && kind == DNN_ADJOINT;
    if (!c->stores_bf16[kind])
        TRY(run(c, kind, DNN_PLAIN, true, operands, &done));
    if (!done) {
        c->stores_bf16[kind] = true;
        TRY(run(c, kind, DNN_PLAIN, false, operands, &done));
    }
    *type = !c->stores_bf16[kind] || c->base.precision != PRECISION_BF16 ? F32 : BF16;
fail:
    return status;
}

/* A convolution whose result has the plain layout: fused, or plain and then the epilogue. */
static enum status run_with_epilogue(struct cuda_conv *c, enum dnn_kind kind, const void *in, void *out,
                                     const struct epilogue *e, char *scratch)
{
    enum status status = STATUS_OK;
    struct queue q = cuda_conv_queue(&c->base);
    enum dnn_epilogue epilogue = fused_epilogue(e, out);
    const struct conv_shape *s = &c->fold.folded;
    size_t count = kind == DNN_FORWARD ? conv_out_count(&c->base.shape) : image_count(c);
    int channels = kind == DNN_FORWARD ? s->d : s->c;
    bool done = false;
    const float *numbers = epilogue == DNN_PLAIN || epilogue == DNN_NOT_FUSED ? NULL : scalars_for(c, &q, epilogue, e);
    if (epilogue != DNN_NOT_FUSED && (numbers || epilogue == DNN_PLAIN)) {
        struct dnn_operands fused = { .image = kind == DNN_FORWARD ? in : out,
                                      .code = kind == DNN_FORWARD ? out : in,
                                      .add = e->add,
                                      .mask = e->kind == EPILOGUE_MASK ? e->mask : NULL,
                                      .numbers = numbers };
        TRY(run(c, kind, epilogue, false, &fused, &done));
        c->base.how = c->used_cublas ? "cuBLASLt" : c->fused_label ? c->fused_label : "one pass";
    }
    if (!done) {
        enum element type;
        void *result = scratch + c->result_offset;
        struct dnn_operands plain = { .image = kind == DNN_FORWARD ? in : result,
                                      .code = kind == DNN_FORWARD ? result : in };
        TRY(run_plain(c, kind, &plain, &type));
        count_extra_traffic(c, count, type == F32 ? sizeof(float) : 2);
        cuda_epilogue(&c->base, e, type, result, out, count / channels, channels);
        c->base.how = c->used_cublas ? "cuBLASLt, own pass after" : "own pass after";
    }
fail:
    return status;
}

/* Of a forward call's image; -1: not kept. */
static int find_folded_input(const struct cuda_conv *c, const void *image)
{
    for (int i = 0; c->folded_inputs && i < CONV_TERMS; i++)
        if (c->folded_input_of[i] == image)
            return i;
    return -1;
}

static const void *folded(struct cuda_conv *c, const struct queue *q, const void *in, void *scratch)
{
    if (!c->folds)
        return in;
    if (c->folded_inputs) {
        int at = find_folded_input(c, in);
        if (at < 0) {
            at = c->next_folded_input;
            c->next_folded_input = (at + 1) % CONV_TERMS;
        }
        c->folded_input_of[at] = in;
        scratch = c->folded_inputs + at * folded_bytes(c);
    }
    kernel_fold_image(q, &c->fold, in, scratch);
    count_extra_traffic(c, image_count(c), precision_bytes(c->base.precision));
    return scratch;
}

static enum status conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    struct cuda_conv *c = (struct cuda_conv *)conv;
    struct queue q = cuda_conv_queue(conv);
    conv->beyond = 0;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return earlier_failure(conv);
    return run_with_epilogue(c, DNN_FORWARD, folded(c, &q, in, scratch), out, e, scratch);
}

static enum status conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    enum status status = STATUS_OK;
    struct cuda_conv *c = (struct cuda_conv *)conv;
    struct queue q = cuda_conv_queue(conv);
    enum element type;
    conv->beyond = 0;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return earlier_failure(conv);
    if (!c->folds)
        return run_with_epilogue(c, DNN_ADJOINT, in, out, e, scratch);
    struct dnn_operands plain = { .image = (char *)scratch + c->result_offset, .code = in };
    TRY(run_plain(c, DNN_ADJOINT, &plain, &type));
    kernel_unfold_image(&q, &c->fold, type, plain.image, e, out);
    count_extra_traffic(c, image_count(c), type == F32 ? sizeof(float) : 2);
    conv->how = c->used_cublas ? "cuBLASLt, unfolded after" : "unfolded after";
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

/* The gradient of these terms, which are one, or stacked, to `result`. */
static enum status gradient_of(struct cuda_conv *c, const struct gradient_term *terms, int count, void *result,
                               char *scratch, enum element *type)
{
    enum status status = STATUS_OK;
    struct queue q = cuda_conv_queue(&c->base);
    size_t image = image_count(c) * precision_bytes(c->base.precision);
    const struct dnn_spec spec = gradient_spec(c, count);
    struct plan plan;
    TRY(gpu_get_plan(gpu_of(&c->base), &spec, &plan));
    int at = find_folded_input(c, terms->x);
    struct dnn_operands operands = { .image = !c->folds ? terms->x
                                              : at >= 0 ? c->folded_inputs + at * folded_bytes(c)
                                                        : scratch,
                                     .code = terms->d,
                                     .weights = result };
    for (int t = 0; t < count && c->folds && at < 0; t++) {
        kernel_fold_image(&q, &c->fold, terms[t].x, scratch + t * image);
        count_extra_traffic(c, image_count(c), precision_bytes(c->base.precision));
    }
    if (at >= 0) /* a folded image instead of the image */
        c->base.beyond += (double)image -
                          (double)conv_in_count(&c->base.shape) * (double)precision_bytes(c->base.precision);
    c->used_cublas = plan.gemm != NULL;
    TRY(gpu_run_plan(gpu_of(&c->base), &plan, &operands));
    *type = plan.float_result ? F32 : BF16;
    count_extra_traffic(c, weight_count(c), *type == F32 ? sizeof(float) : 2);
fail:
    return status;
}

static enum status conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch)
{
    enum status status = STATUS_OK;
    struct cuda_conv *c = (struct cuda_conv *)conv;
    bool together = are_stacked(c, terms, count);
    int results = together ? 1 : count;
    struct queue q = cuda_conv_queue(conv);
    char *gradients = (char *)scratch + c->gradient_offset;
    enum element type = F32;
    conv->beyond = 0;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return earlier_failure(conv);
    for (int t = 0; t < results; t++)
        TRY(gradient_of(c, terms + t, together ? count : 1, gradients + t * gradient_bytes(c), scratch, &type));
    for (int t = 0; t < results && c->folds; t++)
        kernel_unfold_gradient(&q, &c->fold, type, gradients + t * gradient_bytes(c), terms[t].alpha, terms[t].number,
                               dw);
    if (!c->folds)
        kernel_add_gradients(&q, type, gradients, gradient_bytes(c), terms, results, dw, weight_count(c));
    if (together)
        conv->how = c->used_cublas ? "cuBLASLt, one call" : "one call";
    else
        conv->how = c->used_cublas ? "cuBLASLt" : c->folds ? "unfolded after" : count > 1 ? "added after" : NULL;
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
