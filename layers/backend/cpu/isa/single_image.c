/* single_image.c - convolutions of one image with weights that are read once, in their order. The image stays in the
 * caches meanwhile. Compiled once per instruction set (base/isa.h). */
#include <string.h>

#include "base/integer.h"
#include "layers/backend/cpu/isa/algorithms.h"
#include "layers/backend/cpu/isa/kernels.h"
#include "layers/backend/cpu/isa/vector.h"
#include "layers/backend/cpu/threads.h"

enum {
#if defined(__AVX512F__)
    PIXELS = 6,
    ATOMS = 4, /* a forward pass holds PIXELS x ATOMS sums in registers */
#else
    PIXELS = 6,
    ATOMS = 2,
#endif
    ROWS = 8,                     /* atoms that an adjoint pass adds to a pixel at once */
    MIN_WEIGHT_RATIO = 8,         /* weights per value of image and code; with fewer, packing pays */
    IMAGE_CACHE_BYTES = 32 << 10, /* part of an image that stays in the L1 cache */
};
_Static_assert(ROWS % ATOMS == 0, "a forward pass takes whole groups of atoms");

static bool fits(const struct conv_shape *s, enum conv_use use)
{
    (void)use;
    return s->n == 1 && s->c % WIDTH == 0 && s->d % ROWS == 0 &&
           conv_weight_count(s) >= MIN_WEIGHT_RATIO * (conv_in_count(s) + conv_out_count(s));
}

/* The pixel of the image that tap t of output pixel `at` reads, or -1 if it lies outside. */
static int source_pixel(const struct conv_shape *s, int at, int t)
{
    int y = at / conv_out_w(s) * s->stride - s->pad + t / s->k, x = at % conv_out_w(s) * s->stride - s->pad + t % s->k;
    return y < 0 || y >= s->h || x < 0 || x >= s->w ? -1 : y * s->w + x;
}

static int block_count(const struct conv_shape *s)
{
    return (conv_out_h(s) * conv_out_w(s) + PIXELS - 1) / PIXELS;
}

struct pixel_pair {
    int pixel, code;
};

/* A forward pass lists where each tap of each output pixel reads, in whole blocks, and has one pixel of zeros. An
 * adjoint pass lists the pairs of pixels of each tap, and their number. */
static size_t list_bytes(const struct conv_shape *s)
{
    size_t taps = (size_t)s->k * s->k, entries = (size_t)block_count(s) * PIXELS * taps;
    size_t zeros = (size_t)s->c * sizeof(float), counts = taps * sizeof(int);
    return round_up(entries * (sizeof(struct pixel_pair) + sizeof(const float *)) + (zeros > counts ? zeros : counts),
                    ARENA_ALIGN);
}

static float sum_of(vec v)
{
    float sum = 0;
    for (int i = 0; i < WIDTH; i++)
        sum += v[i];
    return sum;
}

/* Dot products of ATOMS atoms, which lie `atom` floats apart, with what they read at PIXELS pixels: sources (taps,
 * PIXELS). */
static inline void dot_products(const float *weights, size_t atom, int taps, int c, const float *const *sources,
                                float sums[PIXELS][ATOMS])
{
    vec s[PIXELS][ATOMS] = { 0 };
    for (int t = 0; t < taps; t++, weights += c, sources += PIXELS)
        for (int i = 0; i < c; i += WIDTH) {
            vec w[ATOMS];
            for (int a = 0; a < ATOMS; a++)
                w[a] = load(weights + a * atom + i);
#pragma GCC unroll 8
            for (int p = 0; p < PIXELS; p++) {
                vec x = load(sources[p] + i);
#pragma GCC unroll 4
                for (int a = 0; a < ATOMS; a++)
                    s[p][a] += w[a] * x;
            }
        }
    for (int p = 0; p < PIXELS; p++)
        for (int a = 0; a < ATOMS; a++)
            sums[p][a] = sum_of(s[p][a]);
}

static void forward(const struct conv_shape *s, const float *weights, const float *image, float *code, void *scratch)
{
    int taps = s->k * s->k, blocks = block_count(s), pixels = conv_out_h(s) * conv_out_w(s);
    size_t atom = (size_t)taps * s->c;
    const float **sources = scratch; /* (block, tap, PIXELS) */
    float *zeros = (float *)(sources + (size_t)blocks * taps * PIXELS);
    memset(zeros, 0, (size_t)s->c * sizeof *zeros);
    for (int block = 0; block < blocks; block++)
        for (int t = 0; t < taps; t++)
            for (int p = 0; p < PIXELS; p++) {
                int at = block * PIXELS + p, from = at < pixels ? source_pixel(s, at, t) : -1;
                sources[((size_t)block * taps + t) * PIXELS + p] = from < 0 ? zeros : image + (size_t)from * s->c;
            }
#pragma omp parallel for schedule(static)
    for (int d = 0; d < s->d; d += ATOMS)
        for (int block = 0; block < blocks; block++) {
            float sums[PIXELS][ATOMS];
            dot_products(weights + d * atom, atom, taps, s->c, sources + (size_t)block * taps * PIXELS, sums);
            for (int p = 0; p < PIXELS && block * PIXELS + p < pixels; p++)
                memcpy(code + (size_t)(block * PIXELS + p) * s->d + d, sums[p], sizeof sums[p]);
        }
}

/* Adds what ROWS atoms contribute by one tap to one vector of channels of all pixels. */
static inline void add_atoms(const float *weights, size_t atom, const float *code, int d,
                             const struct pixel_pair *pairs, int count, int c, float *image)
{
    vec w[ROWS];
    for (int r = 0; r < ROWS; r++)
        w[r] = load(weights + r * atom);
    for (int i = 0; i < count; i++) {
        const float *factors = code + (size_t)pairs[i].code * d;
        float *to = image + (size_t)pairs[i].pixel * c;
        vec first = load(to), second = { 0 };
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r += 2) {
            first += factors[r] * w[r];
            second += factors[r + 1] * w[r + 1];
        }
        store(to, first + second);
    }
}

static void adjoint(const struct conv_shape *s, const float *weights, const float *code, float *image, void *scratch)
{
    int taps = s->k * s->k, pixels = conv_out_h(s) * conv_out_w(s), pixels_in = s->h * s->w;
    size_t atom = (size_t)taps * s->c;
    struct pixel_pair *pairs = scratch; /* (tap, pixels), of which counts[tap] are used */
    int *counts = (int *)(pairs + (size_t)taps * pixels);
    for (int t = 0; t < taps; t++) {
        counts[t] = 0;
        for (int at = 0; at < pixels; at++) {
            int from = source_pixel(s, at, t);
            if (from >= 0)
                pairs[(size_t)t * pixels + counts[t]++] = (struct pixel_pair){ from, at };
        }
    }
    int vectors = s->c / WIDTH, max_vectors = (int)(IMAGE_CACHE_BYTES / ((size_t)pixels_in * WIDTH * sizeof(float)));
    max_vectors = max_vectors < 1 ? 1 : max_vectors;
#pragma omp parallel
    for (int at = vectors * thread_number() / thread_count(), end = vectors * (thread_number() + 1) / thread_count();
         at < end; at += max_vectors) {
        int from = at * WIDTH, to = (at + max_vectors < end ? at + max_vectors : end) * WIDTH;
        for (int p = 0; p < pixels_in; p++)
            memset(image + (size_t)p * s->c + from, 0, (size_t)(to - from) * sizeof *image);
        for (int d = 0; d < s->d; d += ROWS)
            for (int t = 0; t < taps; t++)
                for (int c = from; c < to; c += WIDTH)
                    add_atoms(weights + d * atom + (size_t)t * s->c + c, atom, code + d, s->d,
                              pairs + (size_t)t * pixels, counts[t], s->c, image + c);
    }
}

static size_t result_count(const struct conv_shape *s, enum conv_use use)
{
    return use == CONV_FORWARD ? conv_out_count(s) : conv_in_count(s);
}

/* The lists, then the result where it cannot wait in the output for its epilogue. */
static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    (void)threads;
    return list_bytes(s) + result_count(s, use) * sizeof(float);
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *weights, void *out,
                const struct epilogue *e, int threads, void *scratch)
{
    float *result = epilogue_can_wait(e, out) ? out : (float *)((char *)scratch + list_bytes(s));
    (void)threads;
    (use == CONV_FORWARD ? forward : adjoint)(s, weights, in, result, scratch);
    if (!epilogue_is_identity(e))
        ISA_NAME(kernels).epilogue[PRECISION_FP32](e, result, out, result_count(s, use));
}

const struct conv_algorithm ISA_NAME(single_image) = {
    .name = "single_image",
    .only_without_gradient = true,
    .fits = fits,
    .scratch_bytes = scratch_bytes,
    .run = run,
};
