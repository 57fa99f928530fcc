/* conv.c - convolution, adjoint and weight gradient by their definition, in double. In bf16 the weights are rounded
 * first, as other backends read them, and results are rounded once.
 *   forward   out[n,i,j,d] = sum_{a,b,c} w[d,a,b,c] in[n, i s + a - p, j s + b - p, c]
 *   adjoint   out[n,y,x,c] = sum over (i,a) with i s + a - p = y and (j,b) likewise, and d, of w[d,a,b,c] in[n,i,j,d]
 *   gradient  dw[d,a,b,c] += alpha sum_{n,i,j} d[n,i,j,d] x[n, i s + a - p, j s + b - p, c] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/element.h"
#include "layers/backend/ref/ref.h"

struct ref_conv {
    struct conv base;
    float *weights; /* (D,k,k,C), a copy */
};

enum status ref_conv_create(struct device *device, const struct conv_shape *shape, enum precision precision,
                            unsigned uses, struct conv **conv)
{
    enum status status = STATUS_OK;
    struct ref_conv *c = NULL;
    TRY(conv_shape_check(shape));
    c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    c->base = (struct conv){ .device = device, .shape = *shape, .precision = precision, .uses = uses };
    size_t out = conv_out_count(shape), in = conv_in_count(shape), dw = conv_weight_count(shape);
    size_t largest = out > in ? out : in;
    c->base.scratch = sizeof(double) * (largest > dw ? largest : dw);
    *conv = &c->base;
fail:
    return status;
}

void ref_conv_destroy(struct conv *conv)
{
    free(conv);
}

void ref_conv_assign_memory(struct conv *conv, struct arena *arena)
{
    ((struct ref_conv *)conv)->weights = arena_take(arena, conv_weight_count(&conv->shape) * sizeof(float));
}

enum status ref_conv_load(struct conv *conv, const float *weights, void *scratch)
{
    float *copy = ((struct ref_conv *)conv)->weights;
    (void)scratch;
    for (size_t i = 0; i < conv_weight_count(&conv->shape); i++)
        copy[i] = conv->precision == PRECISION_BF16 ? bf16_to_float(bf16_from_float(weights[i])) : weights[i];
    return STATUS_OK;
}

static double finish(enum precision p, double sum, const struct epilogue *e, size_t i)
{
    double v = e->alpha * sum + (e->add ? (double)e->beta * element_load(p, e->add, i) : 0);
    if (e->kind == EPILOGUE_MASK)
        return element_load(p, e->mask, i) != 0 ? e->nu * v : 0;
    if (e->kind == EPILOGUE_SHRINK) {
        double shrunk = fmax(fabs(e->nu * v) - e->threshold, 0);
        return v >= 0 ? shrunk : e->nonnegative ? 0 : -shrunk;
    }
    return v;
}

/* Runs the statement behind it for every output position (n,i,j) and tap (a,b) whose input position (y,x) lies inside
 * the image. */
#define FOR_TAPS(s)                                                                       \
    for (int n = 0; n < (s)->n; n++)                                                      \
        for (int i = 0; i < conv_out_h(s); i++)                                           \
            for (int j = 0; j < conv_out_w(s); j++)                                       \
                for (int a = 0, y = i * (s)->stride - (s)->pad; a < (s)->k; a++, y++)     \
                    for (int b = 0, x = j * (s)->stride - (s)->pad; b < (s)->k; b++, x++) \
                        if (y >= 0 && y < (s)->h && x >= 0 && x < (s)->w)

static size_t in_at(const struct conv_shape *s, int n, int y, int x)
{
    return (((size_t)n * s->h + y) * s->w + x) * s->c;
}

static size_t out_at(const struct conv_shape *s, int n, int i, int j)
{
    return (((size_t)n * conv_out_h(s) + i) * conv_out_w(s) + j) * s->d;
}

static size_t weight_at(const struct conv_shape *s, int d, int a, int b)
{
    return (((size_t)d * s->k + a) * s->k + b) * s->c;
}

/* Forward or adjoint. */
static enum status run(struct conv *conv, bool forward, const void *in, void *out, const struct epilogue *e,
                       double *sums)
{
    const struct conv_shape *s = &conv->shape;
    const float *w = ((struct ref_conv *)conv)->weights;
    size_t count = forward ? conv_out_count(s) : conv_in_count(s);
    memset(sums, 0, count * sizeof *sums);
    FOR_TAPS(s) {
        size_t pixel = in_at(s, n, y, x), code = out_at(s, n, i, j);
        for (int d = 0; d < s->d; d++)
            for (int c = 0; c < s->c; c++) {
                size_t from = forward ? pixel + c : code + d, to = forward ? code + d : pixel + c;
                sums[to] += (double)w[weight_at(s, d, a, b) + c] * element_load(conv->precision, in, from);
            }
    }
    for (size_t i = 0; i < count; i++)
        element_store(conv->precision, out, i, (float)finish(conv->precision, sums[i], e, i));
    return STATUS_OK;
}

enum status ref_conv_forward(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    return run(conv, true, in, out, e, scratch);
}

enum status ref_conv_adjoint(struct conv *conv, const void *in, void *out, const struct epilogue *e, void *scratch)
{
    return run(conv, false, in, out, e, scratch);
}

enum status ref_conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw, void *scratch)
{
    const struct conv_shape *s = &conv->shape;
    double *sums = scratch;
    memset(sums, 0, conv_weight_count(s) * sizeof *sums);
    for (int t = 0; t < count; t++) {
        FOR_TAPS(s) {
            size_t pixel = in_at(s, n, y, x), code = out_at(s, n, i, j);
            for (int d = 0; d < s->d; d++)
                for (int c = 0; c < s->c; c++)
                    sums[weight_at(s, d, a, b) + c] += (double)terms[t].alpha *
                                                       element_load(conv->precision, terms[t].d, code + d) *
                                                       element_load(conv->precision, terms[t].x, pixel + c);
        }
    }
    for (size_t i = 0; i < conv_weight_count(s); i++)
        dw[i] += (float)sums[i];
    return STATUS_OK;
}
