/* curves.c - reads the events of metrics.jsonl, and draws axes and lines. */
#include "trainer/report/curves.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { MAX_BYTES = 1 << 30 };
#define MAX_VALUE 1e30 /* larger values have diverged and are not drawn */
#define MAX_STEP  1e9

static enum status append(struct series *s, double step, const json_t *value)
{
    enum status status = STATUS_OK;
    double number = json_number_value(value);
    if (!json_is_number(value) || !(fabs(number) < MAX_VALUE)) /* null stands for a value that was not finite */
        return status;
    size_t capacity = s->capacity;
    TRY(array_grow(&s->steps, &capacity, (size_t)s->count + 1, sizeof *s->steps));
    TRY(array_grow(&s->values, &s->capacity, (size_t)s->count + 1, sizeof *s->values));
    s->steps[s->count] = step;
    s->values[s->count++] = number;
fail:
    return status;
}

/* Removes the values of `step` and later steps. */
static void rewind_to(struct series *s, double step)
{
    while (s->count && s->steps[s->count - 1] >= step)
        s->count--;
}

static enum status set_value(struct series *s, double step, const json_t *event, const char *key)
{
    rewind_to(s, step); /* the last record of a step counts */
    return append(s, step, json_object_get(event, key));
}

static enum status add_event(struct curves *c, const json_t *event)
{
    enum status status = STATUS_OK;
    const char *kind = json_string_value(json_object_get(event, "event"));
    double step = json_number_value(json_object_get(event, "step")); /* 0 without one */
    if (!(step >= 0 && step <= MAX_STEP))
        return STATUS_DATA; /* the caller reports it with the line number */
    if (strcmp(kind, "step") == 0) {
        TRY(set_value(&c->loss, step, event, "loss"));
        TRY(set_value(&c->lr, step, event, "lr"));
        TRY(set_value(&c->img_s, step, event, "img_s"));
    } else if (strcmp(kind, "eval") == 0) {
        TRY(set_value(&c->eval_loss, step, event, "loss"));
        TRY(set_value(&c->top1, step, event, "top1"));
    } else if (strcmp(kind, "resume") == 0) {
        struct series *all[] = { &c->loss, &c->eval_loss, &c->top1, &c->lr, &c->img_s };
        for (int i = 0; i < 5; i++)
            rewind_to(all[i], step + 1);
    }
fail:
    return status;
}

enum status curves_parse(struct curves *c, const char *name, const char *text, size_t bytes)
{
    enum status status = STATUS_OK;
    json_t *event = NULL;
    long line = 0;
    *c = (struct curves){ 0 };
    for (const char *at = text, *end = text + bytes; at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);
        event = json_loadb(at, length, JSON_REJECT_DUPLICATES, NULL);
        if (!event && !newline) /* incomplete */
            break;
        if (!json_is_object(event) || !json_is_string(json_object_get(event, "event")))
            FAIL(STATUS_DATA, "%s:%ld: not an event", name, line + 1);
        status = add_event(c, event);
        if (status == STATUS_DATA)
            FAIL(STATUS_DATA, "%s:%ld: not an event: its step is invalid", name, line + 1);
        TRY(status);
        json_decref(event);
        event = NULL;
        at += length + 1;
    }
    return status;
fail:
    json_decref(event);
    curves_finish(c);
    return status;
}

enum status curves_read(struct curves *c, const char *path)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    size_t bytes;
    *c = (struct curves){ 0 };
    TRY(file_read(path, MAX_BYTES, &text, &bytes));
    TRY(curves_parse(c, path, text, bytes));
fail:
    free(text);
    return status;
}

void curves_finish(struct curves *c)
{
    struct series *all[] = { &c->loss, &c->eval_loss, &c->top1, &c->lr, &c->img_s };
    for (int i = 0; i < 5; i++) {
        free(all[i]->steps);
        free(all[i]->values);
    }
    *c = (struct curves){ 0 };
}

/* ---- drawing ---- */

/* In units of the viewBox. A phone shows it at nearly this size, so that text of 12 units is readable. */
enum { WIDTH = 380, HEIGHT = 240, LEFT = 52, RIGHT = 12, TOP = 30, BOTTOM = 26, TICKS = 5 };

struct axis {
    double low, high, step;
};

/* The axis ends at multiples of 1, 2 or 5 times a power of ten. */
static struct axis fit_axis(double low, double high)
{
    double span = high > low ? high - low : fmax(fabs(high), 1e-9), rough = span / (TICKS - 1);
    double power = pow(10, floor(log10(rough))), unit = rough / power;
    double step = power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10);
    return (struct axis){ floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step + (high > low ? 0 : step),
                          step };
}

static double plot_x(const struct axis *a, double v)
{
    return LEFT + (v - a->low) / (a->high - a->low) * (WIDTH - LEFT - RIGHT);
}

static double plot_y(const struct axis *a, double v)
{
    return HEIGHT - BOTTOM - (v - a->low) / (a->high - a->low) * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE *out, const struct axis *x, const struct axis *y)
{
    for (int i = 0; i <= 2 * TICKS && y->low + i * y->step <= y->high + 1e-6 * y->step; i++) {
        double at = plot_y(y, y->low + i * y->step);
        fprintf(out,
                "<line x1='%d' y1='%.1f' x2='%d' y2='%.1f' class='grid'/>"
                "<text x='%d' y='%.1f' text-anchor='end'>%.4g</text>\n",
                LEFT, at, WIDTH - RIGHT, at, LEFT - 5, at + 4, y->low + i * y->step);
    }
    for (int i = 0; i <= 2 * TICKS && x->low + i * x->step <= x->high + 1e-6 * x->step; i++) {
        double at = plot_x(x, x->low + i * x->step);
        if (at > WIDTH - RIGHT - 8) /* its label would be cut off */
            break;
        fprintf(out, "<text x='%.1f' y='%d' text-anchor='middle'>%.6g</text>\n", at, HEIGHT - 9, x->low + i * x->step);
    }
}

/* Draws at most two points per unit of width: the minimum and the maximum there. */
static void draw_line(FILE *out, const struct curve *line, const struct axis *x, const struct axis *y)
{
    const struct series *s = line->series;
    int stride = s->count / (2 * WIDTH) + 1;
    fprintf(out, "<polyline fill='none' stroke='%s' stroke-width='1.6' points='", line->colour);
    for (int i = 0; i < s->count; i += stride) {
        int end = i + stride < s->count ? i + stride : s->count, low = i, high = i;
        for (int j = i; j < end; j++) {
            low = s->values[j] < s->values[low] ? j : low;
            high = s->values[j] > s->values[high] ? j : high;
        }
        int first = low < high ? low : high, second = low < high ? high : low;
        fprintf(out, "%.1f,%.1f ", plot_x(x, s->steps[first]), plot_y(y, s->values[first]));
        if (second != first)
            fprintf(out, "%.1f,%.1f ", plot_x(x, s->steps[second]), plot_y(y, s->values[second]));
    }
    fputs("'/>\n", out);
    if (s->count == 1)
        fprintf(out, "<circle cx='%.1f' cy='%.1f' r='3' fill='%s'/>\n", plot_x(x, s->steps[0]), plot_y(y, s->values[0]),
                line->colour);
}

void curves_draw(FILE *out, const char *title, const struct curve *lines, int count)
{
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < lines[i].series->count; j++) {
            x_low = fmin(x_low, lines[i].series->steps[j]);
            x_high = fmax(x_high, lines[i].series->steps[j]);
            y_low = fmin(y_low, lines[i].series->values[j]);
            y_high = fmax(y_high, lines[i].series->values[j]);
        }
    if (!(x_low <= x_high))
        return;
    struct axis x = fit_axis(fmin(x_low, 0), x_high), y = fit_axis(y_low, y_high);
    x.high = fmax(x_high, x.low + x.step * 1e-3); /* so that the line reaches the right edge */
    fprintf(out, "<svg viewBox='0 0 %d %d' role='img'><title>%s</title><text x='%d' y='17' class='title'>%s</text>\n",
            WIDTH, HEIGHT, title, LEFT, title);
    draw_axes(out, &x, &y);
    int right = WIDTH - RIGHT;
    for (int i = count - 1; i >= 0; i--) {
        if (!lines[i].series->count)
            continue;
        draw_line(out, &lines[i], &x, &y);
        if (count > 1) {
            fprintf(out, "<text x='%d' y='17' text-anchor='end' style='fill:%s'>%s</text>\n", right, lines[i].colour,
                    lines[i].name);
            right -= 8 * (int)strlen(lines[i].name) + 10;
        }
    }
    fputs("</svg>\n", out);
}
