/* ops_norm_max.c - draws of batch norm with ReLU and max pooling in one, against what is written here plainly: no other
 * backend has it. */
#include <math.h>
#include <stdlib.h>

#include "layers/backend/element.h"
#include "tests/layers/backend/ops.h"

enum { SHUT = 255 };
enum { X, GAMMA, BETA, Y, SAVED, MOMENTS, ARGMAX, VALUE };               /* forward */
enum { BX, BARGMAX, BVALUE, BDY, BDX, BGAMMA, BSAVED, BDGAMMA, BDBETA }; /* backward */

static int pooled(int size, const struct pool_shape *s)
{
    return (size + 2 * s->pad - s->k) / s->stride + 1;
}

static size_t inputs(const struct task *task)
{
    return task->norm.rows * task->norm.c;
}

static size_t outputs(const struct task *task)
{
    const struct pool_shape *s = &task->pool;
    return (size_t)s->n * pooled(s->h, s) * pooled(s->w, s) * s->c;
}

static void plan_shape(struct task *task, int draw, const int *fixed)
{
    static const int channels[] = { 1, 3, 8, 16, 17, 64, 72 };
    static const float factors[] = { 0, 1, 0.75f };
    struct pool_shape *s = &task->pool;
    s->k = random_in(task, 0, 2) ? 3 : random_in(task, 1, 4);
    s->stride = random_in(task, 1, 3);
    s->pad = random_in(task, 0, s->k / 2);
    s->n = random_in(task, 1, 4);
    s->h = random_in(task, s->k, 12);
    s->w = random_in(task, s->k, 12);
    s->c = PICK(task, channels);
    if (fixed)
        *s = (struct pool_shape){ fixed[0], fixed[1], fixed[2], fixed[3], fixed[4], fixed[5], fixed[6] };
    task->norm = (struct norm_shape){ .rows = (size_t)s->n * s->h * s->w, .c = s->c, .relu = random_bool(task) };
    task->norm.code_scale = fixed ? 0 : PICK(task, factors);
    task_say(task, "%dx%dx%dx%d, window %d, stride %d, pad %d%s%s", s->n, s->h, s->w, s->c, s->k, s->stride, s->pad,
             task->norm.relu ? ", relu" : "", task->norm.code_scale != 0 ? ", of a code" : "");
    if (task->norm.code_scale != 0)
        task_device_scalars(task, draw, &task->norm.code_scale, 1);
}

static int channel_floats(struct task *task, const char *name, double around)
{
    float *host = malloc(task->norm.c * sizeof *host);
    for (int c = 0; c < task->norm.c; c++) {
        host[c] = (float)(around + 0.5 * random_value(task));
        if (around != 0 && random_in(task, 0, 3) == 0)
            host[c] = -host[c]; /* then the smallest x wins */
    }
    int index = task_operand(task, name, host, task->norm.c, false, FLOATS);
    free(host);
    return index;
}

/* Codes have many zeros, which tie. */
static void input_x(struct task *task)
{
    float *x = malloc(inputs(task) * sizeof *x);
    for (size_t i = 0; i < inputs(task); i++) {
        x[i] = 0.5f + random_value(task);
        if (task->norm.code_scale != 0 && random_bool(task))
            x[i] = 0;
    }
    task_operand(task, "x", x, inputs(task), false, ACTIVATIONS);
    free(x);
}

/* ---- forward ---- */

static bool plan_forward(struct task *task, int draw, const int *fixed)
{
    plan_shape(task, draw, fixed);
    input_x(task);
    channel_floats(task, "gamma", 1);
    channel_floats(task, "beta", 0);
    task_result(task, "y", outputs(task));
    task_output(task, "saved", NORM_SAVED * task->norm.c);
    task_output(task, "moments", 2 * task->norm.c);
    size_t words = (outputs(task) + 3) / 4;
    int32_t *argmaxes = calloc(words, sizeof *argmaxes);
    task_operand(task, "argmax_in_window", argmaxes, words, true, INT32);
    free(argmaxes);
    task_result(task, "argmax_value", outputs(task));
    task->traffic = (double)precision_bytes(task->device[TESTED]->precision) *
                    (2.0 * (double)inputs(task) + 2.5 * (double)outputs(task));
    return true;
}

/* The pixel of output o's window that has the largest y, which is the first such in x's own order. */
static size_t argmax_of(const struct task *task, size_t o, const float *scale, const void *x, int *in_window)
{
    const struct pool_shape *s = &task->pool;
    int ow = pooled(s->w, s), oh = pooled(s->h, s), c = (int)(o % s->c);
    int left = (int)(o / s->c % ow) * s->stride - s->pad, top = (int)(o / s->c / ow % oh) * s->stride - s->pad;
    size_t n = o / s->c / ow / oh, argmax = 0;
    double best = -INFINITY;
    for (int i = 0; i < s->k * s->k; i++) {
        int row = top + i / s->k, column = left + i % s->k;
        size_t at = ((n * s->h + row) * s->w + column) * s->c + c;
        if (row < 0 || row >= s->h || column < 0 || column >= s->w)
            continue;
        double v = element_load(task->device[REF]->precision, x, at) * (scale[c] < 0 ? -1.0 : 1.0);
        if (v > best) {
            best = v;
            argmax = at;
            *in_window = i;
        }
    }
    return argmax;
}

static void plain_forward(struct task *task)
{
    struct device *ref = task->device[REF];
    enum precision precision = ref->precision;
    const void *x = task_data(task, X, REF);
    float *saved = task_data(task, SAVED, REF);
    void *between = malloc(inputs(task) * sizeof(float));
    uint8_t *argmaxes = task_data(task, ARGMAX, REF);
    ref->ops->norm_forward(ref, &task->norm, x, task_data(task, GAMMA, REF), task_data(task, BETA, REF), NULL, between,
                           saved, task_data(task, MOMENTS, REF));
    for (size_t o = 0; o < outputs(task); o++) {
        int c = (int)(o % task->norm.c), in_window = 0;
        size_t at = argmax_of(task, o, saved + 2 * task->norm.c, x, &in_window);
        float v = (element_load(precision, x, at) - saved[c]) * saved[2 * task->norm.c + c] +
                  saved[3 * task->norm.c + c];
        bool shut = task->norm.relu && !(v > 0);
        argmaxes[o] = shut ? SHUT : (uint8_t)in_window;
        element_store(precision, task_data(task, Y, REF), o, shut ? 0 : v);
        element_store(precision, task_data(task, VALUE, REF), o, element_load(precision, x, at));
    }
    free(between);
}

static void run_forward(struct task *task, int side)
{
    struct device *device = task->device[side];
    if (side == REF)
        plain_forward(task);
    else
        device->ops->norm_max_forward(
            device, &task->norm, &task->pool, task_data(task, X, side), task_data(task, GAMMA, side),
            task_data(task, BETA, side), task_data(task, Y, side), task_data(task, SAVED, side),
            task_data(task, MOMENTS, side), task_data(task, ARGMAX, side), task_data(task, VALUE, side));
}

/* ---- backward ---- */

static bool plan_backward(struct task *task, int draw, const int *fixed)
{
    enum precision precision = task->device[TESTED]->precision;
    plan_shape(task, draw, fixed);
    input_x(task);
    int channels = task->norm.c;
    size_t words = (outputs(task) + 3) / 4;
    float *saved = malloc(NORM_SAVED * channels * sizeof *saved),
          *argmax_value = malloc(outputs(task) * sizeof *argmax_value);
    uint8_t *argmaxes = malloc(words * 4);
    for (int c = 0; c < channels; c++) {
        saved[c] = 0.5f * random_value(task);
        saved[channels + c] = 0.5f + (float)fabs(random_value(task));
        saved[2 * channels + c] = random_value(task);
        saved[3 * channels + c] = random_value(task);
    }
    for (size_t o = 0; o < words * 4; o++) {
        int in_window = 0;
        argmaxes[o] = 0;
        if (o >= outputs(task))
            continue;
        argmax_value[o] = element_load(precision, task->operand[BX].host,
                                       argmax_of(task, o, saved + 2 * channels, task->operand[BX].host, &in_window));
        argmaxes[o] = task->norm.relu && random_in(task, 0, 2) == 0 ? SHUT : (uint8_t)in_window;
    }
    task_operand(task, "argmax_in_window", argmaxes, words, false, INT32);
    task_operand(task, "argmax_value", argmax_value, outputs(task), false, ACTIVATIONS);
    task_activations(task, "dy", outputs(task));
    task_result(task, "dx", inputs(task));
    channel_floats(task, "gamma", 1);
    task_operand(task, "saved", saved, NORM_SAVED * channels, false, FLOATS);
    task_output(task, "dgamma", channels);
    task_output(task, "dbeta", channels);
    task->operand[BDGAMMA].scale = task->operand[BDBETA].scale = 0.5 * sqrt((double)outputs(task) / channels);
    task->operand[BDX].scale = 1;
    task->traffic = (double)precision_bytes(precision) * (2.0 * (double)inputs(task) + 3.5 * (double)outputs(task));
    free(saved);
    free(argmax_value);
    free(argmaxes);
    return true;
}

static void plain_backward(struct task *task)
{
    enum precision precision = task->device[REF]->precision;
    int channels = task->norm.c;
    const void *x = task_data(task, BX, REF), *dy = task_data(task, BDY, REF);
    const float *saved = task_data(task, BSAVED, REF), *scale = saved + 2 * channels,
                *gamma = task_data(task, BGAMMA, REF);
    const uint8_t *argmaxes = task_data(task, BARGMAX, REF);
    float *dgamma = task_data(task, BDGAMMA, REF), *dbeta = task_data(task, BDBETA, REF);
    double *g = calloc(inputs(task), sizeof *g), *sum = calloc(2 * channels, sizeof *sum),
           rows = (double)task->norm.rows;
    for (size_t o = 0; o < outputs(task); o++) {
        int in_window = 0;
        size_t at = argmax_of(task, o, scale, x, &in_window);
        if (argmaxes[o] != SHUT)
            g[at] += element_load(precision, dy, o);
    }
    for (size_t i = 0; i < inputs(task); i++) {
        int c = (int)(i % channels);
        sum[c] += g[i];
        sum[channels + c] += g[i] * (element_load(precision, x, i) - saved[c]) * saved[channels + c];
    }
    for (size_t i = 0; i < inputs(task); i++) {
        int c = (int)(i % channels);
        double inverse = saved[channels + c], v = element_load(precision, x, i), normal = (v - saved[c]) * inverse;
        double dx = scale[c] * g[i] - gamma[c] * inverse * (sum[c] + normal * sum[channels + c]) / rows,
               nu = task->norm.code_scale;
        element_store(precision, task_data(task, BDX, REF), i, (float)(nu == 0 ? dx : v != 0 ? nu * dx : 0));
    }
    for (int c = 0; c < channels; c++) {
        dbeta[c] += (float)sum[c];
        dgamma[c] += (float)sum[channels + c];
    }
    free(g);
    free(sum);
}

static void run_backward(struct task *task, int side)
{
    struct device *device = task->device[side];
    struct norm_shape shape = task->norm;
    if (task->device_scalars) {
        shape.code_scale = NAN; /* not read */
        shape.code_scale_device = task->device_scalars;
    }
    if (side == REF)
        plain_backward(task);
    else
        device->ops->norm_max_backward(device, &shape, &task->pool, task_data(task, BX, side),
                                       task_data(task, BARGMAX, side), task_data(task, BVALUE, side),
                                       task_data(task, BDY, side), task_data(task, BDX, side),
                                       task_data(task, BGAMMA, side), task_data(task, BSAVED, side),
                                       task_data(task, BDGAMMA, side), task_data(task, BDBETA, side));
}

const struct op norm_max_ops[] = {
    { "norm_max_forward", plan_forward, run_forward, 4e-5, 0, 200, false, { { 16, 112, 112, 64, 3, 2, 1 } } },
    { "norm_max_backward", plan_backward, run_backward, 2e-5, 0, 200, false, { { 16, 112, 112, 64, 3, 2, 1 } } },
    { 0 },
};
