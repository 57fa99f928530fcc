/* ops_conv.c - draws of convolutions: every kernel, stride and padding with random channels and sizes,
 * every epilogue, and one to three gradient terms, separate and stacked. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/tuned.h"
#include "tests/layers/backend/ops.h"

enum { DRAWS = 130, FIRST_POINTWISE = 122 };
#define MAX_WORK 4e6 /* multiplications of a checked draw: the plain backend is slow */

enum { IN, OUT, ADD, MASK };         /* operands of forward and adjoint */
enum { DW, X0, D0, X1, D1, X2, D2 }; /* of the gradient */

/* All of kernel 1 2 3 5 7, stride 1..3, padding 0..k-1 come up in turn. */
static struct conv_shape random_shape(struct task *task, int draw)
{
    static const int kernels[] = { 1, 2, 3, 5, 7 }, channels[] = { 1, 3, 5, 16, 17, 33, 64 };
    int all = 0, at = draw % 54;
    struct conv_shape s = { 0 };
    for (int i = 0; i < 5; i++)
        for (int stride = 1; stride <= 3; stride++)
            for (int pad = 0; pad < kernels[i]; pad++)
                if (all++ == at)
                    s = (struct conv_shape){ .k = kernels[i], .stride = stride, .pad = pad };
    double work;
    do {
        int smallest = s.k - 2 * s.pad > 1 ? s.k - 2 * s.pad : 1;
        s.n = random_in(task, 0, 3) ? random_in(task, 1, 3)
                                    : random_in(task, 4, 40);             /* bf16 takes 16 or 32 at a time, */
        s.h = random_in(task, smallest, random_in(task, 0, 5) ? 17 : 40); /* and rows in parts */
        s.w = random_in(task, smallest, random_in(task, 0, 5) ? 17 : 40);
        s.c = PICK(task, channels);
        s.d = PICK(task, channels);
        work = (double)conv_out_count(&s) * s.k * s.k * s.c;
    } while (work > MAX_WORK);
    return s;
}

static void must(struct task *task, enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s %s: %s\n", task->op->name, task->what, status_message());
    exit(1);
}

/* Shapes that the CPU computes by Winograd's transform: all paddings, sizes that do not fill a tile. */
static struct conv_shape random_winograd(struct task *task)
{
    static const int channels[] = { 16, 32, 64, 72, 88, 96 };
    struct conv_shape s = { .k = 3, .stride = 1, .pad = random_in(task, 0, 2), .n = random_in(task, 2, 3) };
    s.h = random_in(task, s.pad ? 1 : 3, 7);
    s.w = random_in(task, s.pad ? 1 : 3, 7);
    s.c = PICK(task, channels);
    s.d = PICK(task, channels);
    return s;
}

/* One image under weights far larger than it, which are read as they are; in one of four draws weights so many that
 * Winograd's go past the caches. */
static struct conv_shape random_deep(struct task *task, bool many)
{
    struct conv_shape s = {
        .k = 3, .n = many ? 2 : 1, .stride = many ? 1 : random_in(task, 1, 2), .pad = random_in(task, 0, 1)
    };
    s.h = random_in(task, 3, many ? 4 : 5);
    s.w = random_in(task, 3, many ? 4 : 5);
    s.c = many ? 192 : 16 * random_in(task, 2, 6);
    s.d = many ? 192 : 4 * random_in(task, 16, 33);
    return s;
}

/* Wide images of few channels, whose rows the CPU loads as they lie. */
static struct conv_shape random_stem(struct task *task)
{
    static const int kernels[] = { 2, 3, 5, 7 }, atoms[] = { 8, 16, 33, 64, 80 };
    struct conv_shape s;
    do {
        s = (struct conv_shape){ .n = random_in(task, 1, 3),
                                 .stride = random_in(task, 1, 3),
                                 .k = PICK(task, kernels) };
        s.pad = random_in(task, 0, s.k - 1);
        s.h = random_in(task, s.k, 12);
        s.w = random_in(task, s.k, 300);
        s.c = random_in(task, 1, 5);
        s.d = PICK(task, atoms);
    } while ((double)conv_out_count(&s) * s.k * s.k * s.c > MAX_WORK);
    return s;
}

/* What a GPU may leave to products of matrices. */
static struct conv_shape random_pointwise(struct task *task)
{
    static const int channels[] = { 1, 3, 8, 16, 17, 40, 64 };
    struct conv_shape s = { .k = 1, .stride = 1, .n = random_in(task, 1, 3) };
    s.h = random_in(task, 1, 9);
    s.w = random_in(task, 1, 9);
    s.c = PICK(task, channels);
    s.d = PICK(task, channels);
    return s;
}

/* A GPU measures which plan is fastest where the choice is to be kept: here for pointwise ones. */
static struct tuned *choices_for(const struct task *task, const struct device *device)
{
    static struct tuned *choices;
    bool measured = device->ops->stream && task->conv_shape.k == 1 && task->conv_shape.stride == 1;
    if (measured && !choices && tuned_create(&choices) != STATUS_OK)
        exit(1);
    return measured ? choices : NULL;
}

/* Its transforms round, whatever the values. */
static bool exact_shape(const struct conv_shape *s)
{
    return s->k != 3 || s->stride != 1 || s->c < 16 || s->d < 16 || s->c % 8 || s->d % 8;
}

/* Plans the convolution on both sides and loads random weights; false if this draw is none. */
static bool create(struct task *task, int draw, const int *fixed, unsigned uses)
{
    struct conv_shape *s = &task->conv_shape;
    if (fixed)
        *s = (struct conv_shape){ fixed[0], fixed[1], fixed[2], fixed[3], fixed[4], fixed[5], fixed[6], fixed[7] };
    else
        *s = draw % DRAWS >= FIRST_POINTWISE ? random_pointwise(task)
             : draw % 18 == 5                ? random_winograd(task)
             : draw % 18 == 11               ? random_stem(task)
             : draw % 18 == 17               ? random_deep(task, draw / 18 % 4 == 0)
                                             : random_shape(task, draw - draw / 6);
    task_say(task, "%dx%dx%dx%d, %d atoms of %dx%d, stride %d, pad %d", s->n, s->h, s->w, s->c, s->d, s->k, s->k,
             s->stride, s->pad);
    task->work = 2.0 * (double)conv_out_count(s) * s->k * s->k * s->c;
    if (!exact_shape(s)) {
        task->slack = 4;
        if (task->exact)
            return false;
    }
    float *weights = malloc(conv_weight_count(s) * sizeof *weights);
    for (size_t i = 0; i < conv_weight_count(s); i++)
        weights[i] = random_value(task);
    for (int side = first_side(task); side < SIDES; side++) {
        struct device *device = task->device[side];
        struct arena arena = { 0 };
        device->tuned = choices_for(task, device);
        if (device->ops->conv_create(device, s, device->precision, uses, &task->conv[side]) != STATUS_OK) {
            snprintf(task->failure, sizeof task->failure, "%s", status_message());
            status_clear();
            free(weights);
            return false;
        }
        device->ops->conv_assign_memory(task->conv[side], &arena);
        arena = (struct arena){ .memory = task_memory(task, "packed weights", side, arena.used), .size = arena.used };
        device->ops->conv_assign_memory(task->conv[side], &arena);
        task->scratch[side] = task_memory(task, "scratch", side, task->conv[side]->scratch);
        float *loaded = task_memory(task, "weights", side, conv_weight_count(s) * sizeof *weights);
        device->ops->copy_in(device, loaded, weights, conv_weight_count(s) * sizeof *weights);
        must(task, device->ops->conv_load(task->conv[side], loaded, task->scratch[side]));
    }
    free(weights);
    return true;
}

/* Thresholds fall among the values: the result deviates by `size` or so. */
static void random_epilogue(struct task *task, double size)
{
    struct epilogue *e = &task->epilogue;
    *e = (struct epilogue){ .kind = random_in(task, EPILOGUE_LINEAR, EPILOGUE_MASK),
                            .alpha = random_factor(task),
                            .beta = random_factor(task),
                            .nonnegative = random_bool(task) };
    if (e->kind == EPILOGUE_LINEAR && random_bool(task))
        e->alpha = 1;
    if (task->timed)
        *e = (struct epilogue){ .kind = EPILOGUE_SHRINK, .alpha = 0.25f, .beta = 1, .nonnegative = true };
    e->nu = task->exact && random_bool(task) ? 0.5f : random_bool(task) || task->exact ? 1 : 0.75f;
    e->threshold = task->exact ? 0.125f * (float)random_in(task, 0, 16) : 0.5f * e->alpha * e->nu * (float)size;
}

static bool plan_run(struct task *task, int draw, const int *fixed, bool adjoint)
{
    if (!create(task, draw, fixed, adjoint ? CONV_ADJOINT : CONV_FORWARD))
        return false;
    const struct conv_shape *s = &task->conv_shape;
    size_t images = conv_in_count(s), codes = conv_out_count(s), result = adjoint ? images : codes;
    double size = s->k * sqrt(adjoint ? (double)s->d : s->c) / (adjoint ? s->stride : 1);
    random_epilogue(task, size);
    const float factors[] = { task->epilogue.alpha, task->epilogue.nu, task->epilogue.threshold };
    task_device_scalars(task, draw, factors, 3);
    const char *kinds[] = { "linear", "shrink", "mask" };
    int add = task->timed ? 1 : random_in(task, 0, 2);
    const char *adds[] = { "", " + add", " + itself" };
    task_say(task, ", %s%s%s", kinds[task->epilogue.kind], adds[add],
             task->epilogue.kind == EPILOGUE_SHRINK && !task->epilogue.nonnegative ? ", two-sided" : "");
    task_activations(task, "input", adjoint ? codes : images);
    task_result(task, "output", result);
    task->add = add != 0;
    if (add == 1)
        task_activations(task, "add", result);
    else if (task->epilogue.kind == EPILOGUE_MASK)
        task_input(task, "nothing", 0); /* so that the mask keeps its number */
    if (task->epilogue.kind == EPILOGUE_MASK) {
        float *mask = calloc(result, sizeof *mask);
        for (size_t i = 0; i < result; i++)
            mask[i] = random_bool(task) ? random_value(task) : 0;
        task_operand(task, "mask", mask, result, false, ACTIVATIONS);
        free(mask);
    }
    task->accumulate = add == 2;
    task->operand[OUT].scale = 0.5 * fabsf(task->epilogue.alpha * task->epilogue.nu) * size;
    task->traffic = 4.0 * (double)(images + codes + (add == 1 ? result : 0));
    return true;
}

static bool plan_forward(struct task *task, int draw, const int *fixed)
{
    return plan_run(task, draw, fixed, false);
}

static bool plan_adjoint(struct task *task, int draw, const int *fixed)
{
    return plan_run(task, draw, fixed, true);
}

static struct epilogue epilogue_of(const struct task *task, int side)
{
    struct epilogue e = task->epilogue;
    if (task->add)
        e.add = task_data(task, task->accumulate ? OUT : ADD, side);
    if (e.kind == EPILOGUE_MASK)
        e.mask = task_data(task, MASK, side);
    if (side == TESTED && task->device_scalars) {
        e.alpha = e.nu = e.threshold = NAN; /* not read */
        e.device_scalars = task->device_scalars;
    }
    return e;
}

static void run_forward(struct task *task, int side)
{
    struct epilogue e = epilogue_of(task, side);
    must(task, task->device[side]->ops->conv_forward(task->conv[side], task_data(task, IN, side),
                                                     task_data(task, OUT, side), &e, task->scratch[side]));
}

static void run_adjoint(struct task *task, int side)
{
    struct epilogue e = epilogue_of(task, side);
    must(task, task->device[side]->ops->conv_adjoint(task->conv[side], task_data(task, IN, side),
                                                     task_data(task, OUT, side), &e, task->scratch[side]));
}

static bool plan_gradient(struct task *task, int draw, const int *fixed)
{
    if (!create(task, draw, fixed, CONV_GRADIENT | (!fixed && draw % 2 == 1 ? CONV_TERMS_CONTIGUOUS : 0)))
        return false;
    bool stacked = task->conv[TESTED]->prefers_stacked;
    size_t images = conv_in_count(&task->conv_shape), codes = conv_out_count(&task->conv_shape);
    task->terms = task->timed ? 1 : stacked ? CONV_TERMS : random_in(task, 1, 3);
    task->stacked = stacked;
    task->work *= task->terms;
    task_say(task, ", %d terms%s", task->terms, stacked ? ", stacked" : "");
    task_output(task, "dw", conv_weight_count(&task->conv_shape));
    if (stacked) {
        task_activations(task, "x", CONV_TERMS * images);
        task_activations(task, "d", CONV_TERMS * codes);
        task->alpha[0] = random_factor(task);
        return true;
    }
    for (int t = 0; t < task->terms; t++) {
        task_activations(task, "x", images);
        task_activations(task, "d", codes);
        task->alpha[t] = random_factor(task);
    }
    if (!task->timed && random_in(task, 0, 7) == 0) /* a term that does not count */
        task->alpha[0] = 0;
    task_device_scalars(task, draw, task->alpha, task->terms);
    task->traffic = 4.0 * task->terms * (double)(images + codes);
    return true;
}

static void run_gradient(struct task *task, int side)
{
    struct gradient_term terms[CONV_TERMS];
    size_t images = conv_in_count(&task->conv_shape), codes = conv_out_count(&task->conv_shape);
    size_t one = precision_bytes(task->device[side]->precision);
    bool there = side == TESTED && task->device_scalars;
    for (int t = 0; t < task->terms && task->stacked; t++)
        terms[t] = (struct gradient_term){ (char *)task_data(task, X0, side) + t * one * images,
                                           (char *)task_data(task, D0, side) + t * one * codes,
                                           there ? NAN : task->alpha[0], there ? task->device_scalars : NULL };
    for (int t = 0; t < task->terms && !task->stacked; t++)
        terms[t] = (struct gradient_term){ task_data(task, X0 + 2 * t, side), task_data(task, D0 + 2 * t, side),
                                           there ? NAN : task->alpha[t], there ? task->device_scalars + t : NULL };
    must(task, task->device[side]->ops->conv_gradient(task->conv[side], terms, task->terms, task_data(task, DW, side),
                                                      task->scratch[side]));
}

/* The convolutions of ResNet-18 and SDNet-18 at 32x32. */
#define BENCH                                                                                                    \
    {                                                                                                            \
        { 64, 32, 32, 3, 64, 3, 1, 1 }, { 64, 32, 32, 64, 64, 3, 1, 1 }, { 64, 32, 32, 64, 128, 3, 2, 1 },       \
            { 64, 16, 16, 128, 128, 3, 1, 1 }, { 64, 8, 8, 256, 256, 3, 1, 1 }, { 64, 4, 4, 512, 512, 3, 1, 1 }, \
        {                                                                                                        \
            64, 32, 32, 64, 128, 1, 2, 0                                                                         \
        }                                                                                                        \
    }

const struct op conv_ops[] = {
    { "conv_forward", plan_forward, run_forward, 3e-5, 0, DRAWS, true, BENCH },
    { "conv_adjoint", plan_adjoint, run_adjoint, 3e-5, 0, DRAWS, true, BENCH },
    { "conv_gradient", plan_gradient, run_gradient, 1e-5, 0, DRAWS, true, BENCH },
    { 0 },
};
