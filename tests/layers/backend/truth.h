/* truth.h - the CSC-layer in double precision from its formulas, and its gradients by central differences.
 * Layouts are those of the layer: x (N,H,W,C), w (D,k,k,C), z (N,H',W',D). */
#ifndef CSC_TESTS_LAYERS_BACKEND_TRUTH_H
#define CSC_TESTS_LAYERS_BACKEND_TRUTH_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layers/csc.h"

/* Calls body with i: index into x, j: into z, l: into w, for every product of a convolution. */
#define TRUTH_PRODUCTS(s, body)                                                       \
    for (int n = 0; n < (s)->n; n++)                                                  \
        for (int p = 0; p < conv_out_h(s) * conv_out_w(s); p++)                       \
            for (int t = 0; t < (s)->k * (s)->k; t++) {                               \
                int row = p / conv_out_w(s) * (s)->stride + t / (s)->k - (s)->pad;    \
                int column = p % conv_out_w(s) * (s)->stride + t % (s)->k - (s)->pad; \
                if (row < 0 || row >= (s)->h || column < 0 || column >= (s)->w)       \
                    continue;                                                         \
                for (int d = 0; d < (s)->d; d++)                                      \
                    for (int c = 0; c < (s)->c; c++) {                                \
                        int i = ((n * (s)->h + row) * (s)->w + column) * (s)->c + c;  \
                        int j = (n * conv_out_h(s) * conv_out_w(s) + p) * (s)->d + d; \
                        int l = (d * (s)->k * (s)->k + t) * (s)->c + c;               \
                        body;                                                         \
                    }                                                                 \
            }

static inline void truth_analysis(const struct conv_shape *s, const double *x, const double *w, double *z)
{
    memset(z, 0, conv_out_count(s) * sizeof *z);
    TRUTH_PRODUCTS(s, z[j] += w[l] * x[i])
}

static inline void truth_synthesis(const struct conv_shape *s, const double *z, const double *w, double *x)
{
    memset(x, 0, conv_in_count(s) * sizeof *x);
    TRUTH_PRODUCTS(s, x[i] += w[l] * z[j])
}

struct truth {
    struct conv_shape shape;
    struct csc_config config;
    double eta;
    const double *frozen; /* the last iteration alone, from this extrapolated code; NULL: all of them */
    double *last_y;       /* of the last call */
    double margin;        /* smallest distance of a value from its threshold, in the last call */
};

static inline double truth_shrink(struct truth *t, double v)
{
    double nu = 1 / (1 + t->config.mu * t->eta), threshold = t->config.lambda * t->eta * nu;
    double over = fabs(nu * v) - threshold;
    if (!t->config.nonnegative || v > 0)
        t->margin = fmin(t->margin, fabs(over));
    return over <= 0 || (t->config.nonnegative && v < 0) ? 0 : copysign(over, v);
}

/* z = S(y + eta A^T (x - A y)); y NULL is 0. */
static inline void truth_iterate(struct truth *t, const double *x, const double *w, const double *y, double *z)
{
    size_t images = conv_in_count(&t->shape), codes = conv_out_count(&t->shape);
    double *r = calloc(images, sizeof *r);
    if (y)
        truth_synthesis(&t->shape, y, w, r);
    for (size_t i = 0; i < images; i++)
        r[i] = x[i] - r[i];
    truth_analysis(&t->shape, r, w, z);
    for (size_t i = 0; i < codes; i++)
        z[i] = truth_shrink(t, (y ? y[i] : 0) + t->eta * z[i]);
    free(r);
}

static inline void truth_forward(struct truth *t, const double *x, const double *w, double *z)
{
    size_t codes = conv_out_count(&t->shape);
    double *before = calloc(codes, sizeof *before), *y = calloc(codes, sizeof *y), m = 1;
    t->margin = INFINITY;
    if (t->frozen)
        truth_iterate(t, x, w, t->frozen, z);
    for (int k = 0; k < t->config.steps && !t->frozen; k++) {
        if (k > 0) {
            double next = (1 + sqrt(1 + 4 * m * m)) / 2;
            for (size_t i = 0; i < codes; i++)
                y[i] = k == 1 ? z[i] : z[i] + (m - 1) / next * (z[i] - before[i]);
            memcpy(before, z, codes * sizeof *z);
            m = next;
        }
        truth_iterate(t, x, w, k ? y : NULL, z);
    }
    if (t->last_y && !t->frozen)
        memcpy(t->last_y, y, codes * sizeof *y);
    free(before);
    free(y);
}

/* gradient (count) of <z, dz> with respect to `point`, which is x or w, by central differences. */
static inline void truth_gradient(struct truth *t, double *point, size_t count, const double *x, const double *w,
                                  const double *dz, double *gradient)
{
    const double h = 1e-6;
    size_t codes = conv_out_count(&t->shape);
    double *z = malloc(codes * sizeof *z);
    for (size_t i = 0; i < count; i++) {
        double keep = point[i], loss[2] = { 0, 0 };
        for (int side = 0; side < 2; side++) {
            point[i] = side ? keep + h : keep - h;
            truth_forward(t, x, w, z);
            for (size_t j = 0; j < codes; j++)
                loss[side] += z[j] * dz[j];
        }
        point[i] = keep;
        gradient[i] = (loss[1] - loss[0]) / (2 * h);
    }
    free(z);
}

/* 1/2 |x - A z|^2 + lambda |z|_1 + mu/2 |z|^2 of image n. */
static inline double truth_energy(const struct truth *t, const double *x, const double *w, const double *z, int image)
{
    size_t images = conv_in_count(&t->shape) / t->shape.n, codes = conv_out_count(&t->shape) / t->shape.n;
    double *a = malloc(images * t->shape.n * sizeof *a), energy = 0;
    truth_synthesis(&t->shape, z, w, a);
    for (size_t i = image * images; i < (image + 1) * images; i++)
        energy += 0.5 * (x[i] - a[i]) * (x[i] - a[i]);
    for (size_t i = image * codes; i < (image + 1) * codes; i++)
        energy += t->config.lambda * fabs(z[i]) + 0.5 * t->config.mu * z[i] * z[i];
    free(a);
    return energy;
}

/* Eigenvalues of A^T A's nonzero part, the largest: A A^T as a dense matrix, Jacobi's rotations. n is 1. */
static inline double truth_lambda_max(const struct conv_shape *s, const double *w)
{
    size_t pixels = conv_in_count(s), codes = conv_out_count(s);
    double *unit = calloc(pixels, sizeof *unit), *code = malloc(codes * sizeof *code),
           *m = malloc(pixels * pixels * sizeof *m);
    double off, largest = 0;
    for (size_t i = 0; i < pixels; i++) {
        unit[i] = 1;
        truth_analysis(s, unit, w, code);
        truth_synthesis(s, code, w, m + i * pixels);
        unit[i] = 0;
    }
    do {
        off = 0;
        for (size_t i = 0; i < pixels; i++)
            for (size_t j = i + 1; j < pixels; j++) {
                double angle = 0.5 * atan2(2 * m[i * pixels + j], m[i * pixels + i] - m[j * pixels + j]);
                double c = cos(angle), e = sin(angle);
                off += fabs(m[i * pixels + j]);
                for (size_t k = 0; k < pixels; k++) {
                    double a = m[i * pixels + k], b = m[j * pixels + k];
                    m[i * pixels + k] = c * a + e * b;
                    m[j * pixels + k] = c * b - e * a;
                }
                for (size_t k = 0; k < pixels; k++) {
                    double a = m[k * pixels + i], b = m[k * pixels + j];
                    m[k * pixels + i] = c * a + e * b;
                    m[k * pixels + j] = c * b - e * a;
                }
            }
    } while (off > 1e-9);
    for (size_t i = 0; i < pixels; i++)
        largest = fmax(largest, m[i * pixels + i]);
    free(unit);
    free(code);
    free(m);
    return largest;
}

#endif
