/* ops_norm.c - draws of batch norm and pooling. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "layers/backend/element.h"
#include "tests/layers/backend/ops.h"

/* ---- batch norm: x (rows, C) ---- */

enum { X, GAMMA, BETA, ADD, Y, SAVED, MOMENTS };                       /* forward; inference has RUNNING for SAVED */
enum { BX, BY, BGAMMA, BSAVED, BDY, BDADD, BDGAMMA, BDBETA, BADDEND }; /* backward */

/* In every other draw some channels have a mean far from 0, little deviation or none. */
static float *random_channels(struct task *task, size_t rows, int c)
{
    float *x = malloc(rows * c * sizeof *x);
    bool hard = !task->timed && random_bool(task);
    for (int j = 0; j < c; j++) {
        static const float means[] = { 0, 0.5f, -3, 30, -300 }, deviations[] = { 1, 0.1f, 5, 0 };
        float mean = hard ? PICK(task, means) : 0.5f, deviation = hard ? PICK(task, deviations) : 1;
        for (size_t r = 0; r < rows; r++)
            x[r * c + j] = mean + deviation * random_value(task);
    }
    return x;
}

static void plan_norm(struct task *task, const int *fixed)
{
    static const int channels[] = { 1, 3, 5, 16, 17, 31, 32, 33, 64, 65, 100 },
                     rows[] = { 1, 2, 3, 7, 63, 64, 65, 200, 513 };
    task->norm = (struct norm_shape){ .rows = PICK(task, rows), .c = PICK(task, channels), .relu = random_bool(task) };
    task->add = random_bool(task);
    task->accumulate = random_bool(task);
    if (fixed) {
        task->norm = (struct norm_shape){ .rows = fixed[0], .c = fixed[1], .relu = fixed[2] };
        task->add = fixed[3];
    }
    task_say(task, "%zu rows of %d%s%s", task->norm.rows, task->norm.c, task->add ? ", add" : "",
             task->norm.relu ? ", relu" : "");
    task->traffic = 4.0 * (double)task->norm.rows * task->norm.c;
}

static int channel_input(struct task *task, const char *name, double around)
{
    float *host = malloc(task->norm.c * sizeof *host);
    for (int c = 0; c < task->norm.c; c++)
        host[c] = (float)(around + 0.5 * random_value(task));
    int index = task_operand(task, name, host, task->norm.c, false, FLOATS);
    free(host);
    return index;
}

/* For every second draw, on a device that supports relu_mask. */
static bool takes_open(const struct task *task, int draw)
{
    const struct norm_shape *s = &task->norm;
    return !task->timed && draw % 2 == 0 && task->add && s->relu && s->c % 8 == 0 &&
           task->device[TESTED]->ops->supports_relu_mask;
}

static bool plan_forward(struct task *task, int draw, const int *fixed)
{
    plan_norm(task, fixed);
    size_t count = task->norm.rows * task->norm.c;
    float *x = random_channels(task, task->norm.rows, task->norm.c);
    task_operand(task, "x", x, count, false, ACTIVATIONS);
    free(x);
    channel_input(task, "gamma", 1);
    channel_input(task, "beta", 0);
    task_activations(task, "add", task->add ? count : 0);
    task_result(task, "y", count);
    task_output(task, "saved", NORM_SAVED * task->norm.c);
    task_output(task, "moments", 2 * task->norm.c);
    if (takes_open(task, draw)) {
        task->norm.relu_mask = task_memory(task, "relu_mask", TESTED, count / 8);
        task_say(task, ", its bits");
    }
    task->traffic *= task->add ? 4 : 3;
    return true;
}

/* Checks the bits against y. */
static void check_open(struct task *task)
{
    struct device *device = task->device[TESTED];
    size_t count = task->norm.rows * task->norm.c, wrong = 0;
    uint8_t *relu_mask = malloc(count / 8);
    void *y = malloc(count * sizeof(float));
    device->ops->copy_out(device, relu_mask, task->norm.relu_mask, count / 8);
    device->ops->copy_out(device, y, task_data(task, Y, TESTED), count * precision_bytes(device->precision));
    for (size_t i = 0; i < count; i++)
        wrong += (relu_mask[i / 8] >> i % 8 & 1) != (element_load(device->precision, y, i) > 0);
    if (wrong > 0)
        snprintf(task->failure, sizeof task->failure, "%zu of %zu bits are not those of y", wrong, count);
    free(relu_mask);
    free(y);
}

static void run_forward(struct task *task, int side)
{
    task->device[side]->ops->norm_forward(task->device[side], &task->norm, task_data(task, X, side),
                                          task_data(task, GAMMA, side), task_data(task, BETA, side),
                                          task->add ? task_data(task, ADD, side) : NULL, task_data(task, Y, side),
                                          task_data(task, SAVED, side), task_data(task, MOMENTS, side));
    if (side == TESTED && task->norm.relu_mask)
        check_open(task);
}

static bool plan_inference(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    plan_norm(task, fixed);
    size_t count = task->norm.rows * task->norm.c;
    float *running = malloc(2 * task->norm.c * sizeof *running);
    for (int c = 0; c < task->norm.c; c++) {
        running[c] = random_value(task);
        running[task->norm.c + c] = random_in(task, 0, 9) ? expf(random_value(task)) : 0;
    }
    task_activations(task, "x", count);
    channel_input(task, "gamma", 1);
    channel_input(task, "beta", 0);
    task_activations(task, "add", task->add ? count : 0);
    task_result(task, "y", count);
    task_operand(task, "running", running, 2 * task->norm.c, false, FLOATS);
    free(running);
    task->traffic *= task->add ? 3 : 2;
    return true;
}

static void run_inference(struct task *task, int side)
{
    task->device[side]->ops->norm_inference(task->device[side], &task->norm, task_data(task, X, side),
                                            task_data(task, GAMMA, side), task_data(task, BETA, side),
                                            task_data(task, SAVED, side), task->add ? task_data(task, ADD, side) : NULL,
                                            task_data(task, Y, side));
}

/* dy as an operand; the rest of the gradient, so that no sum of the two is rounded, is returned. */
static float *split_gradient(struct task *task, size_t count)
{
    static const float parts[][2] = { { 1, 0 }, { 0, 1 }, { 0.5f, 0.5f }, { 2, -1 } };
    float *dy = malloc(count * sizeof *dy), *more = malloc(count * sizeof *more);
    for (size_t i = 0; i < count; i++) {
        const float *part = parts[random_in(task, 0, 3)];
        float sum = random_value(task);
        dy[i] = part[0] * sum;
        more[i] = part[1] * sum;
    }
    task_operand(task, "dy", dy, count, true, ACTIVATIONS);
    free(dy);
    return more;
}

/* saved is that of x; y has zeros where ReLU cut, which without add x and saved say, too. */
static bool plan_backward(struct task *task, int draw, const int *fixed)
{
    static const float factors[] = { 0, 1, 0.75f };
    plan_norm(task, fixed);
    int channels = task->norm.c;
    size_t rows = task->norm.rows, count = rows * channels;
    task->of_sum = !fixed && task->add && draw % 3 == 0 && task->device[TESTED]->ops->norm_backward_of_sum;
    float *x = random_channels(task, rows, channels), *y = malloc(count * sizeof *y);
    float *saved = malloc(NORM_SAVED * channels * sizeof *saved), *gamma = malloc(channels * sizeof *gamma);
    float *scale = saved + 2 * channels, *shift = scale + channels;
    task->norm.code_scale = fixed ? 0 : PICK(task, factors);
    if (task->norm.code_scale != 0)
        task_device_scalars(task, draw, &task->norm.code_scale, 1);
    for (size_t i = 0; i < count && task->norm.code_scale != 0; i++)
        x[i] = random_bool(task) ? x[i] : 0;
    for (int c = 0; c < channels; c++) {
        double mean = 0, variance = 0;
        for (size_t r = 0; r < rows; r++)
            mean += x[r * channels + c] / (double)rows;
        for (size_t r = 0; r < rows; r++)
            variance += pow(x[r * channels + c] - mean, 2) / (double)rows;
        saved[c] = (float)mean;
        saved[channels + c] = (float)(1 / sqrt(variance + 1e-5));
        gamma[c] = 1 + 0.5f * random_value(task);
        scale[c] = gamma[c] * saved[channels + c];
        shift[c] = 0.5f * random_value(task);
    }
    task_operand(task, "x", x, count, false, ACTIVATIONS);
    for (size_t i = 0; i < count; i++) {
        float centred = element_load(task->device[TESTED]->precision, task->operand[BX].host, i) - saved[i % channels];
        float v = centred * scale[i % channels] + shift[i % channels];
        y[i] = fmaxf(task->add ? random_value(task) : v, 0);
    }
    task_operand(task, "y", y, count, false, ACTIVATIONS);
    if (takes_open(task, draw)) {
        uint8_t *relu_mask = calloc(count / 8, 1);
        for (size_t i = 0; i < count; i++)
            relu_mask[i / 8] |= (uint8_t)((element_load(task->device[TESTED]->precision, task->operand[BY].host, i) > 0)
                                          << i % 8);
        task->norm.relu_mask = task_memory(task, "relu_mask", TESTED, count / 8);
        task->device[TESTED]->ops->copy_in(task->device[TESTED], task->norm.relu_mask, relu_mask, count / 8);
        task_say(task, ", by bits");
        free(relu_mask);
    }
    task_operand(task, "gamma", gamma, channels, false, FLOATS);
    task_operand(task, "saved", saved, NORM_SAVED * channels, false, FLOATS);
    float *more = task->of_sum ? split_gradient(task, count) : NULL;
    if (!more)
        task_result(task, "dy", count);
    task_result(task, "dadd", task->add ? count : 0);
    task_output(task, "dgamma", channels);
    task_output(task, "dbeta", channels);
    if (more)
        task_operand(task, "more", more, count, false, ACTIVATIONS);
    free(more);
    for (int c = 0; c < channels && rows < 4; c++) /* few rows leave next to nothing of g / deviation */
        task->operand[BDY].scale = fmax(task->operand[BDY].scale, saved[channels + c]);
    task->operand[BDGAMMA].scale = task->operand[BDBETA].scale = 0.5 * sqrt((double)rows);
    task_say(task, "%s%s%s", task->add && task->accumulate ? " accumulated" : "",
             task->norm.code_scale != 0 ? ", of a code" : "", task->of_sum ? ", of two" : "");
    task->traffic *= 5 + (task->norm.relu ? 2 : 0) + (task->add ? 1 : 0); /* dy twice read, once written; x twice */
    free(x);
    free(y);
    free(saved);
    free(gamma);
    return true;
}

static void run_backward(struct task *task, int side)
{
    const struct backend *ops = task->device[side]->ops;
    struct norm_shape shape = task->norm;
    const void *y = side == TESTED && shape.relu_mask ? NULL : task_data(task, BY, side); /* not read */
    void *dy = task_data(task, BDY, side), *more = task->of_sum ? task_data(task, BADDEND, side) : NULL;
    if (side == TESTED && task->device_scalars) {
        shape.code_scale = NAN; /* not read */
        shape.code_scale_device = task->device_scalars;
    }
    if (side == TESTED && more) {
        ops->norm_backward_of_sum(task->device[side], &shape, task_data(task, BX, side), y, dy, more,
                                  task_data(task, BGAMMA, side), task_data(task, BSAVED, side),
                                  task_data(task, BDADD, side), task->accumulate, task_data(task, BDGAMMA, side),
                                  task_data(task, BDBETA, side));
        return;
    }
    if (more)
        ops->axpby_act(task->device[side], 1, dy, 1, more, dy, shape.rows * shape.c);
    task->device[side]->ops->norm_backward(
        task->device[side], &shape, task_data(task, BX, side), y, task_data(task, BDY, side),
        task_data(task, BGAMMA, side), task_data(task, BSAVED, side), task->add ? task_data(task, BDADD, side) : NULL,
        task->accumulate, task_data(task, BDGAMMA, side), task_data(task, BDBETA, side));
}

/* ---- pooling ---- */

enum { FROM, TO, WINNER };

static int pooled(int size, const struct pool_shape *s)
{
    return (size + 2 * s->pad - s->k) / s->stride + 1;
}

static void plan_pool(struct task *task, const int *fixed)
{
    static const int channels[] = { 1, 3, 5, 16, 17, 33 };
    struct pool_shape *s = &task->pool;
    s->k = random_in(task, 1, 4);
    s->stride = random_in(task, 1, 3);
    s->pad = random_in(task, 0, s->k / 2);
    s->n = random_in(task, 1, 4);
    s->h = random_in(task, s->k, 12);
    s->w = random_in(task, s->k, 12);
    s->c = PICK(task, channels);
    if (fixed)
        *s = (struct pool_shape){ fixed[0], fixed[1], fixed[2], fixed[3], fixed[4], fixed[5], fixed[6] };
    task_say(task, "%dx%dx%dx%d, window %d, stride %d, pad %d", s->n, s->h, s->w, s->c, s->k, s->stride, s->pad);
}

static size_t pool_in(const struct task *task)
{
    return (size_t)task->pool.n * task->pool.h * task->pool.w * task->pool.c;
}

static size_t pool_out(const struct task *task)
{
    return (size_t)task->pool.n * pooled(task->pool.h, &task->pool) * pooled(task->pool.w, &task->pool) * task->pool.c;
}

static int whole_operand(struct task *task, const char *name, size_t count, bool written, int low, int high)
{
    int32_t *host = malloc(count * sizeof *host);
    for (size_t i = 0; i < count; i++)
        host[i] = random_in(task, low, high);
    int index = task_operand(task, name, host, count, written, INT32);
    free(host);
    return index;
}

static bool plan_max_forward(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    plan_pool(task, fixed);
    task_activations(task, "x", pool_in(task));
    task_result(task, "y", pool_out(task));
    whole_operand(task, "argmax", pool_out(task), true, -9, -1);
    task->traffic = 4.0 * (double)(pool_in(task) + 2 * pool_out(task));
    return true;
}

static void run_max_forward(struct task *task, int side)
{
    task->device[side]->ops->max_forward(task->device[side], &task->pool, task_data(task, FROM, side),
                                         task_data(task, TO, side), task_data(task, WINNER, side));
}

/* Any pixel may be the maximum of several windows. */
/* Some pixel of output element o's window. */
static int32_t random_argmax(struct task *task, size_t o)
{
    const struct pool_shape *s = &task->pool;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    int top = (int)(o / s->c / ow % oh) * s->stride - s->pad, left = (int)(o / s->c % ow) * s->stride - s->pad;
    int row = random_in(task, top > 0 ? top : 0, (top + s->k < s->h ? top + s->k : s->h) - 1);
    int column = random_in(task, left > 0 ? left : 0, (left + s->k < s->w ? left + s->k : s->w) - 1);
    return row * s->w + column;
}

static bool plan_max_backward(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    plan_pool(task, fixed);
    task->accumulate = random_bool(task);
    task_say(task, "%s", task->accumulate ? " accumulated" : "");
    task_activations(task, "dy", pool_out(task));
    task_result(task, "dx", pool_in(task));
    int32_t *argmax = malloc(pool_out(task) * sizeof *argmax);
    for (size_t o = 0; o < pool_out(task); o++)
        argmax[o] = random_argmax(task, o);
    task_operand(task, "argmax", argmax, pool_out(task), false, INT32);
    free(argmax);
    task->traffic = 4.0 * (double)(pool_in(task) + 2 * pool_out(task));
    return true;
}

static void run_max_backward(struct task *task, int side)
{
    task->device[side]->ops->max_backward(task->device[side], &task->pool, task_data(task, FROM, side),
                                          task_data(task, WINNER, side), task_data(task, TO, side), task->accumulate);
}

static void plan_mean(struct task *task, const int *fixed, bool backward)
{
    static const int channels[] = { 1, 3, 5, 16, 17, 33, 100 };
    task->n = fixed ? fixed[0] : random_in(task, 1, 7);
    task->k = fixed ? fixed[1] : random_in(task, 1, 50); /* pixels */
    task->c = fixed ? fixed[2] : PICK(task, channels);
    size_t large = (size_t)task->n * task->k * task->c, small = (size_t)task->n * task->c;
    task_say(task, "%d images of %d pixels, %d channels", task->n, task->k, task->c);
    if (backward) {
        task_input(task, "dy", small);
        task_result(task, "dx", large);
    } else {
        task_activations(task, "x", large);
        task_output(task, "y", small);
    }
    task->traffic = 4.0 * (double)(large + small);
}

static bool plan_mean_forward(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    plan_mean(task, fixed, false);
    return true;
}

static bool plan_mean_backward(struct task *task, int draw, const int *fixed)
{
    (void)draw;
    plan_mean(task, fixed, true);
    return true;
}

static void run_mean_forward(struct task *task, int side)
{
    task->device[side]->ops->mean_forward(task->device[side], task->n, task->k, task->c, task_data(task, FROM, side),
                                          task_data(task, TO, side));
}

static void run_mean_backward(struct task *task, int side)
{
    task->device[side]->ops->mean_backward(task->device[side], task->n, task->k, task->c, task_data(task, FROM, side),
                                           task_data(task, TO, side));
}

const struct op norm_ops[] = {
    { "norm_forward",
      plan_forward,
      run_forward,
      4e-5,
      0,
      200,
      false,
      { { 65536, 64, 1, 0 }, { 65536, 64, 1, 1 }, { 16384, 128, 1, 0 }, { 4096, 256, 1, 0 }, { 1024, 512, 1, 0 } } },
    { "norm_inference",
      plan_inference,
      run_inference,
      2e-5,
      0,
      100,
      false,
      { { 65536, 64, 1, 0 }, { 1024, 512, 1, 1 } } },
    { "norm_backward",
      plan_backward,
      run_backward,
      2e-5,
      0,
      200,
      false,
      { { 65536, 64, 1, 0 }, { 65536, 64, 1, 1 }, { 16384, 128, 1, 0 }, { 4096, 256, 1, 0 }, { 1024, 512, 1, 0 } } },
    { "max_forward", plan_max_forward, run_max_forward, 0, 0, 60, true, { { 16, 112, 112, 64, 3, 2, 1 } } },
    { "max_backward", plan_max_backward, run_max_backward, 5e-6, 0.05, 60, true, { { 16, 112, 112, 64, 3, 2, 1 } } },
    { "mean_forward", plan_mean_forward, run_mean_forward, 5e-6, 0, 60, false, { { 64, 16, 512 } } },
    { "mean_backward", plan_mean_backward, run_mean_backward, 5e-6, 0, 60, false, { { 64, 16, 512 } } },
    { 0 },
};
