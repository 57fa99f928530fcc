/* ops_small.c - draws of the elementwise operations, the linear layer, the loss and the optimizer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/layers/backend/ops.h"

static size_t plan_count(struct task *task, const int *fixed)
{
    static const int counts[] = { 1, 2, 15, 16, 17, 31, 33, 100, 255, 1023, 4097 };
    size_t count = fixed ? (size_t)fixed[0] : (size_t)PICK(task, counts);
    task_say(task, "%zu floats", count);
    return count;
}

/* ---- elementwise ---- */

enum { A, B, C, D };

static bool plan_mask(struct task *task, int draw, const int *fixed)
{
    size_t count = plan_count(task, fixed);
    float *mask = malloc(count * sizeof *mask);
    for (size_t i = 0; i < count; i++)
        mask[i] = random_bool(task) ? random_value(task) : random_bool(task) ? 0.0f : -0.0f;
    task->accumulate = random_bool(task); /* in place */
    task->alpha[0] = random_factor(task);
    task_device_scalars(task, draw, task->alpha, 1);
    task_operand(task, "mask", mask, count, false, ACTIVATIONS);
    free(mask);
    task_result(task, "out", count);
    task_activations(task, "in", task->accumulate ? 0 : count);
    task->traffic = 12.0 * (double)count;
    return true;
}

static void run_mask(struct task *task, int side)
{
    const struct backend *ops = task->device[side]->ops;
    const void *in = task_data(task, task->accumulate ? B : C, side), *mask = task_data(task, A, side);
    if (side == TESTED && task->device_scalars)
        ops->mask_device_scale(task->device[side], in, mask, task->device_scalars, task_data(task, B, side),
                               task->operand[B].count);
    else
        ops->mask(task->device[side], in, mask, task->alpha[0], task_data(task, B, side), task->operand[B].count);
}

/* out = a x + b y; out may be x or y, and y may be x. */
static bool plan_axpby_f32(struct task *task, int draw, const int *fixed)
{
    size_t count = plan_count(task, fixed);
    task->k = fixed ? 0 : draw % 4;
    task->alpha[0] = random_factor(task);
    task->alpha[1] = random_factor(task);
    task_input(task, "x", count);
    task_input(task, "y", count);
    task->operand[task_output(task, "out", count)].scale = 1;
    task->traffic = 12.0 * (double)count;
    return true;
}

static void run_axpby_f32(struct task *task, int side)
{
    float *x = task_data(task, A, side), *y = task_data(task, B, side), *out = task_data(task, C, side);
    task->device[side]->ops->axpby_f32(task->device[side], task->alpha[0], task->k == 1 ? out : x, task->alpha[1],
                                       task->k == 2   ? out
                                       : task->k == 3 ? x
                                                      : y,
                                       out, task->operand[C].count);
}

/* The same of activations. */
static bool plan_axpby_act(struct task *task, int draw, const int *fixed)
{
    size_t count = plan_count(task, fixed);
    task->k = fixed ? 0 : draw % 4;
    task->alpha[0] = random_factor(task);
    task->alpha[1] = random_factor(task);
    task_activations(task, "x", count);
    task_activations(task, "y", count);
    task->operand[task_result(task, "out", count)].scale = 1;
    task->traffic = 12.0 * (double)count;
    return true;
}

static void run_axpby_act(struct task *task, int side)
{
    void *x = task_data(task, A, side), *y = task_data(task, B, side), *out = task_data(task, C, side);
    task->device[side]->ops->axpby_act(task->device[side], task->alpha[0], task->k == 1 ? out : x, task->alpha[1],
                                       task->k == 2   ? out
                                       : task->k == 3 ? x
                                                      : y,
                                       out, task->operand[C].count);
}

static bool plan_dot_act(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    size_t count = plan_count(task, fixed);
    task_activations(task, "x", count);
    task_activations(task, "y", count);
    task->traffic = 8.0 * (double)count;
    return true;
}

static void run_dot_act(struct task *task, int side)
{
    struct device *device = task->device[side];
    void *x = task_data(task, A, side), *y = task_data(task, B, side);
    size_t count = task->operand[A].count;
    task->result[side] = device->ops->dot_act(device, x, x, count);
    if (!task->timed)
        task->result[side] += 0.25 * device->ops->dot_act(device, x, y, count);
}

/* To activations and back: in bf16 each float is rounded once. */
static bool plan_upload(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    size_t count = plan_count(task, fixed);
    task_input(task, "host", count);
    task_result(task, "activations", count);
    task_output(task, "back", count);
    task->traffic = 16.0 * (double)count;
    return true;
}

static void run_upload(struct task *task, int side)
{
    struct device *device = task->device[side];
    size_t count = task->operand[A].count;
    float *host = malloc(count * sizeof *host);
    device->ops->copy_out(device, host, task_data(task, A, side), count * sizeof *host);
    device->ops->upload(device, task_data(task, B, side), host, count);
    device->ops->download(device, host, task_data(task, B, side), count);
    device->ops->copy_in(device, task_data(task, C, side), host, count * sizeof *host);
    free(host);
}

static bool plan_dot_f32(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    size_t count = plan_count(task, fixed);
    task_input(task, "x", count);
    task_input(task, "y", count);
    task->traffic = 8.0 * (double)count;
    return true;
}

/* With itself: a sum without cancellation, so that its relative error is meaningful. */
static void run_dot_f32(struct task *task, int side)
{
    struct device *device = task->device[side];
    float *x = task_data(task, A, side), *y = task_data(task, B, side);
    size_t count = task->operand[A].count;
    task->result[side] = device->ops->dot_f32(device, x, x, count);
    if (!task->timed)
        task->result[side] += 0.25 * device->ops->dot_f32(device, x, y, count);
}

/* ---- linear layer: y (N,K) = x (N,C) w^T + b ---- */

enum { LX, LW, LB, LY };             /* forward */
enum { GX, GW, GDY, GDX, GDW, GDB }; /* backward */

static void plan_linear(struct task *task, const int *fixed)
{
    static const int channels[] = { 1, 3, 15, 16, 17, 64, 129 }, classes[] = { 1, 2, 10, 33, 100 };
    task->n = fixed ? fixed[0] : random_in(task, 1, 9);
    task->c = fixed ? fixed[1] : PICK(task, channels);
    task->k = fixed ? fixed[2] : PICK(task, classes);
    task_say(task, "%d images, %d channels, %d classes", task->n, task->c, task->k);
    task_input(task, "x", (size_t)task->n * task->c);
    task_input(task, "w", (size_t)task->k * task->c);
    task->work = 2.0 * task->n * task->c * task->k;
}

static bool plan_linear_forward(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    plan_linear(task, fixed);
    task_input(task, "b", task->k);
    task->operand[task_output(task, "y", (size_t)task->n * task->k)].scale = 1;
    return true;
}

static void run_linear_forward(struct task *task, int side)
{
    task->device[side]->ops->linear_forward(task->device[side], task->n, task->c, task->k, task_data(task, LX, side),
                                            task_data(task, LW, side), task_data(task, LB, side),
                                            task_data(task, LY, side));
}

static bool plan_linear_backward(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    plan_linear(task, fixed);
    task_input(task, "dy", (size_t)task->n * task->k);
    task_output(task, "dx", (size_t)task->n * task->c);
    task_output(task, "dw", (size_t)task->k * task->c);
    task_output(task, "db", task->k);
    for (int i = GDX; i <= GDB; i++)
        task->operand[i].scale = 1;
    task->work *= 2;
    return true;
}

static void run_linear_backward(struct task *task, int side)
{
    task->device[side]->ops->linear_backward(
        task->device[side], task->n, task->c, task->k, task_data(task, GX, side), task_data(task, GW, side),
        task_data(task, GDY, side), task_data(task, GDX, side), task_data(task, GDW, side), task_data(task, GDB, side));
}

/* ---- loss ---- */

enum { LOGITS, LABELS, LOSSES, MEAN_LOSS, DLOGITS };

static bool plan_loss(struct task *task, int draw, const int *fixed)
{
    static const int classes[] = { 1, 2, 10, 33, 1000 };
    static const float smoothings[] = { 0, 0.1f, 0.5f };
    task->n = fixed ? fixed[0] : random_in(task, 1, 9);
    task->k = fixed ? fixed[1] : PICK(task, classes);
    task->alpha[0] = PICK(task, smoothings);
    task->alpha[1] = random_factor(task);
    task->add = draw % 4 != 3; /* with gradient */
    int32_t *labels = malloc(task->n * sizeof *labels);
    float *logits = malloc((size_t)task->n * task->k * sizeof *logits);
    for (int i = 0; i < task->n; i++)
        labels[i] = random_in(task, 0, 4) ? random_in(task, 0, task->k - 1) : -1;
    for (int i = 0; i < task->n * task->k; i++) /* some rows with logits that overflow a plain exponential */
        logits[i] = (i / task->k % 3 == 2 ? 200.0f : 2.0f) * random_value(task);
    task_operand(task, "logits", logits, (size_t)task->n * task->k, false, FLOATS);
    task_operand(task, "labels", labels, task->n, false, INT32);
    task_output(task, "losses", task->n);
    task_output(task, "mean", 1);
    int dlogits = task_output(task, "dlogits", task->add ? (size_t)task->n * task->k : 0);
    task->operand[dlogits].scale = task->alpha[1] /
                                   sqrt(task->k); /* probability less target: one class leaves nothing */
    task_say(task, "%d images, %d classes, smoothing %g", task->n, task->k, task->alpha[0]);
    free(labels);
    free(logits);
    return true;
}

static void run_loss(struct task *task, int side)
{
    task->device[side]->ops->cross_entropy(task->device[side], task->n, task->k, task_data(task, LOGITS, side),
                                           task_data(task, LABELS, side), task->alpha[0], task->alpha[1],
                                           task_data(task, LOSSES, side), task_data(task, MEAN_LOSS, side),
                                           task->add ? task_data(task, DLOGITS, side) : NULL);
}

/* ---- optimizer ---- */

enum { SW, SG, SV, SR };
enum { MAX_ROWS = 6 };

/* Rows with gaps between them, which must stay: fixed are their number and length, all of them atoms. */
static int draw_rows(struct task *task, const int *fixed, struct sgd_row *rows)
{
    static const int lengths[] = { 1, 3, 9, 27, 147, 576, 1000, 4608, 4639 };
    int count = fixed ? fixed[0] : random_in(task, 1, MAX_ROWS);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        rows[i] = (struct sgd_row){ .offset = at,
                                    .length = fixed ? fixed[1] : PICK(task, lengths),
                                    .atom = !task->exact && (fixed || random_bool(task)),
                                    .decays = fixed || random_bool(task) };
        at += rows[i].length + (fixed ? 0 : random_in(task, 0, 3));
    }
    return count;
}

/* All combinations of nesterov, first, momentum and decay come up in turn. Atoms are long enough not to vanish. */
static bool plan_sgd(struct task *task, int draw, const int *fixed)
{
    struct sgd_row *rows = calloc(fixed ? fixed[0] : MAX_ROWS, sizeof *rows);
    int count = draw_rows(task, fixed, rows);
    size_t floats = rows[count - 1].offset + rows[count - 1].length;
    float *w = malloc(floats * sizeof *w), *v = malloc(floats * sizeof *v);
    task->sgd = (struct sgd){ .lr = 0.125f,
                              .momentum = draw & 4 ? 0 : 0.5f,
                              .weight_decay = draw & 8 ? 0 : 0.25f,
                              .scale = random_factor(task),
                              .nesterov = draw & 1,
                              .first = draw & 2 };
    if (!task->exact && task->sgd.momentum != 0)
        task->sgd.momentum = 0.9f;
    task_say(task, "%d rows, the first of %d floats%s, %s, nesterov %d, first %d, momentum %g, decay %g, scale %g",
             count, rows[0].length, rows[0].atom ? ", an atom" : "", rows[0].decays ? "decays" : "no decay",
             task->sgd.nesterov, task->sgd.first, task->sgd.momentum, task->sgd.weight_decay, task->sgd.scale);
    for (size_t i = 0; i < floats; i++) {
        v[i] = random_value(task);
        w[i] = task->exact ? random_value(task) : 4 + random_value(task);
    }
    task->n = count;
    task->operand[task_operand(task, "w", w, floats, true, FLOATS)].scale = 1;
    task_input(task, "g", floats);
    task->operand[task_operand(task, "v", v, floats, true, FLOATS)].scale = 1;
    task_operand(task, "rows", rows, count * sizeof *rows / sizeof(int32_t), false, INT32);
    free(rows);
    free(w);
    free(v);
    task->traffic = 20.0 * (double)floats;
    return true;
}

static void run_sgd(struct task *task, int side)
{
    task->device[side]->ops->sgd(task->device[side], &task->sgd, task_data(task, SW, side), task_data(task, SG, side),
                                 task_data(task, SV, side), task_data(task, SR, side), task->n);
}

static bool plan_rows(struct task *task, int draw, const int *fixed)
{
    static const int lengths[] = { 1, 3, 9, 27, 144, 147, 576 };
    (void)draw;
    int rows = fixed ? fixed[0] : random_in(task, 1, 20), length = fixed ? fixed[1] : PICK(task, lengths);
    float *w = malloc((size_t)rows * length * sizeof *w);
    for (int r = 0; r < rows; r++) {
        static const float scales[] = { 1, 0.01f, 1e-15f, 0, 100 };
        float scale = task->timed ? 1 : PICK(task, scales);
        for (int i = 0; i < length; i++)
            w[r * length + i] = scale * random_value(task);
    }
    task->n = rows;
    task->k = length;
    task_say(task, "%d rows of %d", rows, length);
    task_operand(task, "w", w, (size_t)rows * length, true, FLOATS);
    free(w);
    task->traffic = 12.0 * rows * length;
    return true;
}

static void run_rows(struct task *task, int side)
{
    task->device[side]->ops->normalize_rows(task->device[side], task_data(task, 0, side), task->n, task->k);
}

const struct op small_ops[] = {
    { "mask", plan_mask, run_mask, 1e-6, 0, 60, true, { { 4194304 } } },
    { "axpby_act", plan_axpby_act, run_axpby_act, 1e-6, 0, 60, true, { { 4194304 } } },
    { "dot_act", plan_dot_act, run_dot_act, 1e-12, 0, 60, false, { { 4194304 } } },
    { "upload", plan_upload, run_upload, 0, 0, 60, true, { { 4194304 } } },
    { "axpby_f32", plan_axpby_f32, run_axpby_f32, 1e-6, 0, 60, true, { { 4194304 } } },
    { "dot_f32", plan_dot_f32, run_dot_f32, 1e-12, 0, 60, false, { { 4194304 } } },
    { "linear_forward",
      plan_linear_forward,
      run_linear_forward,
      5e-6,
      0,
      60,
      true,
      { { 64, 512, 10 }, { 64, 512, 1000 } } },
    { "linear_backward",
      plan_linear_backward,
      run_linear_backward,
      5e-6,
      0,
      60,
      true,
      { { 64, 512, 10 }, { 64, 512, 1000 } } },
    { "cross_entropy", plan_loss, run_loss, 5e-6, 0, 60, false, { { 64, 10 }, { 64, 1000 } } },
    { "sgd", plan_sgd, run_sgd, 2e-6, 0, 64, true, { { 1024, 4608 } } },
    { "normalize_rows", plan_rows, run_rows, 2e-6, 0, 60, false, { { 512, 4608 } } },
    { 0 },
};
