/* conv.c - convolutions of the CUDA backend. A cuDNN plan with a fused epilogue is used where there is one and it is
 * the fastest; else a plain convolution, by cuDNN or cuBLASLt, and a pass of our own for the epilogue. Images whose
 * channels are not a multiple of 8 are folded first (kernels/kernels.h). */
#include <stdlib.h>
#include <string.h>

#include "layers/backend/cuda/gpu.h"

enum {
    MAX_SPECS = 7,  /* that are planned when a convolution is created */
    SCALAR_SETS = 8 /* sets of factors for fused epilogues that are kept on the device */
};

struct cuda_conv {
    struct conv base;
    bool folds;
    struct fold fold;        /* fold.folded: the shape that cuDNN sees */
    void *converted_weights; /* the weights as activations, folded; NULL: floats are used where the caller keeps them */
    const void *weights;     /* converted_weights, or those that were loaded */
    float *scalars;          /* device memory (SCALAR_SETS, 3): alpha, nu and threshold of fused epilogues */
    struct scalar_set {
        float values[3];     /* the values on the device */
        bool used, captured; /* captured: a graph reads it, so that it must not change */
    } scalar_sets[SCALAR_SETS];
    int next_set;        /* the set that is overwritten next */
    char *folded_inputs; /* folded images of the last forward calls, with CONV_INPUT_UNCHANGED; NULL: none */
    const void *folded_input_of[CONV_TERMS];
    int next_folded_input;
    bool used_cublas;        /* by the last call */
    const char *fused_label; /* of the last call's plan; NULL: it was not fused */
    bool stores_bf16[2];     /* by enum dnn_kind: cuDNN has no plan with an fp32 result, only one with bf16 */
    size_t result_offset,
        gradient_offset; /* offsets in scratch of the fp32 results; in front of them lie folded images */
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

/* Bytes from one term's gradient to the next in scratch. */
static size_t gradient_bytes(const struct cuda_conv *c)
{
    return align256(weight_count(c) * sizeof(float));
}

/* Counts an intermediate result, which is written and read again, for the trace. */
static void count_extra_traffic(struct cuda_conv *c, size_t elements, size_t bytes_each)
{
    c->base.extra_bytes += 2.0 * (double)(elements * bytes_each);
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

/* The spec of the gradient of `terms` stacked terms. Its plan may store fp32 or bf16. */
static struct dnn_spec gradient_spec(const struct cuda_conv *c, int terms)
{
    struct dnn_spec spec = spec_of(c, DNN_GRADIENT, DNN_PLAIN);
    spec.shape.n *= terms;
    return spec;
}

/* Every spec that training will use, so that a capture finds the plans ready and rank 0's choices reach all ranks. */
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
        { CONV_FORWARD | CONV_HINT_CODE_EPILOGUE, DNN_FORWARD, DNN_SHRINK },
        { CONV_FORWARD | CONV_HINT_CODE_EPILOGUE, DNN_FORWARD, DNN_SHRINK_ADD },
        { CONV_FORWARD | CONV_HINT_CODE_EPILOGUE | CONV_GRADIENT, DNN_FORWARD, DNN_MASK_ADD },
        { CONV_ADJOINT | CONV_HINT_ACCUMULATE, DNN_ADJOINT, DNN_ADD },
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

/* Folded images are much larger than the images: they are written once if they are read twice. */
static bool keeps_folded_inputs(const struct cuda_conv *c)
{
    return c->folds && (c->base.uses & CONV_INPUT_UNCHANGED);
}

static size_t folded_bytes(const struct cuda_conv *c)
{
    return align256(image_count(c) * precision_bytes(c->base.precision));
}

/* cuDNN wants tensors aligned to 16 bytes. Folded images become stacked when they are folded. */
static enum status choose_stacking(struct cuda_conv *c)
{
    enum status status = STATUS_OK;
    struct conv *base = &c->base;
    size_t one = precision_bytes(base->precision), image = conv_in_count(&base->shape) * one;
    size_t code = conv_out_count(&base->shape) * one;
    struct dnn_spec spec = gradient_spec(c, 1);
    if (!(base->uses & CONV_TERMS_CONTIGUOUS) || keeps_folded_inputs(c) || code % 16 != 0 ||
        (!c->folds && image % 16 != 0))
        return STATUS_OK;
    TRY(gpu_choose_stacking(gpu_of(base), &spec, !c->folds, &base->prefers_stacked));
    base->prefers_stacked_inputs = base->prefers_stacked && !c->folds;
    const struct dnn_spec used[] = { spec_of(c, DNN_ADJOINT, DNN_SCALE), spec_of(c, DNN_ADJOINT, DNN_SUBTRACT) };
    if (base->prefers_stacked && !c->folds)
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
    if (shape->c > KERNELS_MAX_CHANNELS || shape->d > KERNELS_MAX_CHANNELS)
        FAIL(STATUS_USAGE, "a GPU takes at most %d channels, but a convolution has %d and %d", KERNELS_MAX_CHANNELS,
             shape->c, shape->d);
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
    size_t stack = c->folds && c->base.prefers_stacked ? CONV_TERMS * in * precision_bytes(precision) : 0;
    c->gradient_offset = c->result_offset + align256((in > out ? in : out) * sizeof(float));
    c->gradient_offset = c->gradient_offset > stack ? c->gradient_offset : align256(stack);
    c->base.scratch = c->gradient_offset + (uses & CONV_GRADIENT ? CONV_TERMS * gradient_bytes(c) : 0);
    *conv = &c->base;
    c = NULL;
fail:
    free(c);
    return status;
}

static void conv_assign_memory(struct conv *conv, struct arena *arena)
{
    struct cuda_conv *c = (struct cuda_conv *)conv;
    bool converts = c->folds || conv->precision == PRECISION_BF16;
    c->converted_weights = converts ? arena_take(arena, weight_count(c) * precision_bytes(conv->precision)) : NULL;
    c->scalars = arena_take(arena, SCALAR_SETS * 3 * sizeof *c->scalars);
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

/* The fused form of an epilogue, or DNN_NOT_FUSED. */
static enum dnn_epilogue fused_epilogue(const struct epilogue *e, const void *out)
{
    if (e->add && e->add != out && e->beta == -1 && e->kind == EPILOGUE_LINEAR)
        return DNN_SUBTRACT;
    if (e->add && (e->beta != 1 || (e->add == out && e->kind != EPILOGUE_LINEAR)))
        return DNN_NOT_FUSED;
    if (e->kind == EPILOGUE_LINEAR)
        return e->add ? DNN_ADD : e->alpha == 1 && !e->device_scalars ? DNN_PLAIN : DNN_SCALE;
    if (e->kind == EPILOGUE_SHRINK)
        return !e->nonnegative ? DNN_NOT_FUSED : e->add ? DNN_SHRINK_ADD : DNN_SHRINK;
    return e->add && e->mask != out ? DNN_MASK_ADD : DNN_NOT_FUSED;
}

/* Returns the device memory with the factors of a fused epilogue: the caller's, or a set of our own that is written
 * first if the values are new. NULL if every set is in use by a graph. */
static const float *scalars_for(struct cuda_conv *c, const struct queue *q, enum dnn_epilogue epilogue,
                                const struct epilogue *e)
{
    const float values[] = { e->alpha, epilogue >= DNN_SHRINK ? e->nu : 1,
                             e->kind == EPILOGUE_SHRINK ? e->threshold : 0 };
    struct gpu *gpu = gpu_of(&c->base);
    if (e->device_scalars)
        return e->device_scalars;
    for (int i = 0; i < SCALAR_SETS; i++) {
        struct scalar_set *f = &c->scalar_sets[i];
        if (f->used && memcmp(f->values, values, sizeof values) == 0) {
            f->captured |= gpu->capturing;
            return c->scalars + 3 * i;
        }
    }
    if (gpu->capturing) {
        gpu_fail_capture(gpu, "new scalars of a convolution");
        return c->scalars;
    }
    for (int i = 0; i < SCALAR_SETS; i++) {
        int at = (c->next_set + i) % SCALAR_SETS;
        if (c->scalar_sets[at].captured)
            continue;
        kernel_write_scalars(q, c->scalars + 3 * at, values[0], values[1], values[2]);
        memcpy(c->scalar_sets[at].values, values, sizeof values);
        c->scalar_sets[at].used = true;
        c->next_set = (at + 1) % SCALAR_SETS;
        return c->scalars + 3 * at;
    }
    return NULL;
}

/* Runs the spec's plan on images and codes of the folded shape. *done: whether there is a plan. */
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

/* Runs the convolution without its epilogue, which a pass of our own applies: with an fp32 result, so that it is
 * rounded only once, or in bf16 if cuDNN has nothing else. The adjoint of a folded image is always bf16, because its
 * size costs more time there than everything else. */
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

/* Runs a convolution with its epilogue, fused or as a second pass. */
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
    const float *scalars = epilogue == DNN_PLAIN || epilogue == DNN_NOT_FUSED ? NULL : scalars_for(c, &q, epilogue, e);
    if (epilogue != DNN_NOT_FUSED && (scalars || epilogue == DNN_PLAIN)) {
        struct dnn_operands fused = { .image = kind == DNN_FORWARD ? in : out,
                                      .code = kind == DNN_FORWARD ? out : in,
                                      .add = e->add,
                                      .mask = e->kind == EPILOGUE_MASK ? e->mask : NULL,
                                      .scalars = scalars };
        TRY(run(c, kind, epilogue, false, &fused, &done));
        c->base.method = c->used_cublas ? "cuBLASLt" : c->fused_label ? c->fused_label : "one pass";
    }
    if (!done) {
        enum element type;
        void *result = scratch + c->result_offset;
        struct dnn_operands plain = { .image = kind == DNN_FORWARD ? in : result,
                                      .code = kind == DNN_FORWARD ? result : in };
        TRY(run_plain(c, kind, &plain, &type));
        count_extra_traffic(c, count, type == F32 ? sizeof(float) : 2);
        cuda_epilogue(&c->base, e, type, result, out, count / channels, channels);
        c->base.method = c->used_cublas ? "cuBLASLt, own pass after" : "own pass after";
    }
fail:
    return status;
}

/* Index of the folded copy of a forward call's image; -1: there is none. */
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
    conv->extra_bytes = 0;
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
    conv->extra_bytes = 0;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return earlier_failure(conv);
    if (!c->folds)
        return run_with_epilogue(c, DNN_ADJOINT, in, out, e, scratch);
    struct dnn_operands plain = { .image = (char *)scratch + c->result_offset, .code = in };
    TRY(run_plain(c, DNN_ADJOINT, &plain, &type));
    kernel_unfold_image(&q, &c->fold, type, plain.image, e, out);
    count_extra_traffic(c, image_count(c), type == F32 ? sizeof(float) : 2);
    conv->method = c->used_cublas ? "cuBLASLt, unfolded after" : "unfolded after";
fail:
    return status;
}

static bool are_stacked(const struct cuda_conv *c, const struct gradient_term *terms, int count)
{
    const struct conv_shape *s = &c->base.shape;
    size_t image = conv_in_count(s) * precision_bytes(c->base.precision);
    size_t code = conv_out_count(s) * precision_bytes(c->base.precision);
    bool stacked = c->base.prefers_stacked && count == CONV_TERMS;
    for (int t = 1; t < count && stacked; t++)
        stacked = terms[t].alpha == terms->alpha && terms[t].device_alpha == terms->device_alpha &&
                  (const char *)terms[t].d == (const char *)terms->d + t * code &&
                  (c->folds || (const char *)terms[t].x == (const char *)terms->x + t * image);
    return stacked;
}

/* Writes the gradient of one term, or of stacked ones, to `result`. */
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
    if (at >= 0) /* a folded image is read instead of the image */
        c->base.extra_bytes += (double)image -
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
    conv->extra_bytes = 0;
    if (gpu_of(conv)->failure.code != STATUS_OK)
        return earlier_failure(conv);
    for (int t = 0; t < results; t++)
        TRY(gradient_of(c, terms + t, together ? count : 1, gradients + t * gradient_bytes(c), scratch, &type));
    for (int t = 0; t < results && c->folds; t++)
        kernel_unfold_gradient(&q, &c->fold, type, gradients + t * gradient_bytes(c), terms[t].alpha,
                               terms[t].device_alpha, dw);
    if (!c->folds)
        kernel_add_gradients(&q, type, gradients, gradient_bytes(c), terms, results, dw, weight_count(c));
    if (together)
        conv->method = c->used_cublas ? "cuBLASLt, one call" : "one call";
    else
        conv->method = c->used_cublas ? "cuBLASLt" : c->folds ? "unfolded after" : count > 1 ? "added after" : NULL;
fail:
    return status;
}

void gpu_fill_conv(struct backend *table)
{
    table->conv_create = conv_create;
    table->conv_destroy = conv_destroy;
    table->conv_assign_memory = conv_assign_memory;
    table->conv_load = conv_load;
    table->conv_forward = conv_forward;
    table->conv_adjoint = conv_adjoint;
    table->conv_gradient = conv_gradient;
}
