/* corrupt_noise.c - noise, contrast, and changes of S and V in HSV, on values (pixels, 3) in 0..1. */
#include <math.h>

#include "data/corrupt/corrupt_internal.h"

/* Draws from a Poisson distribution by inversion, adding up its probabilities from 0. Means are at most 500 here, so
 * exp(-mean) does not underflow and a draw takes a few hundred additions. */
static int poisson(struct philox *stream, double mean)
{
    double u = philox_uniform(stream), p = exp(-mean), sum = p;
    int k = 0;
    while (u >= sum && p > 0) {
        p *= mean / ++k;
        sum += p;
        if (k > mean && p < 1e-18) /* the rest of the tail is below the resolution of u */
            break;
    }
    return k;
}

void corrupt_noise(const struct corruption *c, struct philox *stream, double *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double v = values[i];
        switch (c->kind) {
        case CORRUPT_GAUSSIAN_NOISE: v += c->a * philox_normal(stream); break;
        case CORRUPT_SPECKLE_NOISE: v += v * c->a * philox_normal(stream); break;
        case CORRUPT_SHOT_NOISE: v = poisson(stream, v * c->a) / c->a; break;
        default: { /* impulse noise: salt or pepper with equal probability */
            double u = philox_uniform(stream);
            v = u < c->a / 2 ? 0 : u < c->a ? 1 : v;
        }
        }
        values[i] = v;
    }
}

static void contrast(double factor, double *values, size_t pixels)
{
    double mean[3] = { 0 };
    for (size_t i = 0; i < 3 * pixels; i++)
        mean[i % 3] += values[i];
    for (size_t i = 0; i < 3 * pixels; i++) {
        double m = mean[i % 3] / (double)pixels;
        values[i] = (values[i] - m) * factor + m;
    }
}

static double clip(double v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

/* The hexcone model of HSV; h is in sixths of a turn. */
static void to_hsv(const double rgb[3], double *h, double *s, double *v)
{
    double r = rgb[0], g = rgb[1], b = rgb[2];
    double high = fmax(r, fmax(g, b)), chroma = high - fmin(r, fmin(g, b));
    *v = high;
    *s = high > 0 ? chroma / high : 0;
    if (chroma == 0)
        *h = 0;
    else if (high == b)
        *h = 4 + (r - g) / chroma;
    else if (high == g)
        *h = 2 + (b - r) / chroma;
    else
        *h = (g - b) / chroma;
    if (*h < 0)
        *h += 6;
}

static void to_rgb(double h, double s, double v, double rgb[3])
{
    int sector = (int)h;
    double f = h - sector, p = v * (1 - s), q = v * (1 - f * s), t = v * (1 - (1 - f) * s);
    const double channels[6][3] = { { v, t, p }, { q, v, p }, { p, v, t }, { p, q, v }, { t, p, v }, { v, p, q } };
    for (int c = 0; c < 3; c++)
        rgb[c] = channels[sector % 6][c];
}

void corrupt_colour(const struct corruption *c, double *values, size_t pixels)
{
    if (c->kind == CORRUPT_CONTRAST) {
        contrast(c->a, values, pixels);
        return;
    }
    for (size_t i = 0; i < pixels; i++) {
        double h, s, v;
        to_hsv(values + 3 * i, &h, &s, &v);
        if (c->kind == CORRUPT_BRIGHTNESS)
            v = clip(v + c->a);
        else
            s = clip(s * c->a + c->b);
        to_rgb(h, s, v, values + 3 * i);
    }
}
