/* bf16_few_channels.c - few_channels.c for bf16 codes, by products of tiles. P and the sums of an image's row are fp32.
 * Compiled as bf16.c is. */
#include "layers/backend/cpu/isa/bf16_tiles.h"
#include "layers/backend/cpu/isa/col2im.h"

enum { BLOCK = 2 * EDGE }; /* pixels of P at a time */

static bool fits(const struct conv_shape *s, enum conv_use use)
{
    return use == CONV_ADJOINT && s->k > 1 && s->c <= COL2IM_MAX_CHANNELS && s->d >= DEPTH;
}

static int columns_of(const struct conv_shape *s)
{
    return s->k * s->k * s->c;
}

static int panels_of(const struct conv_shape *s) /* of 32 columns */
{
    return ceil_div(columns_of(s), 2 * EDGE);
}

static int steps_of(const struct conv_shape *s) /* of 32 atoms */
{
    return ceil_div(s->d, DEPTH);
}

static size_t pixel_stride_of(const struct conv_shape *s)
{
    return (size_t)panels_of(s) * 2 * EDGE;
}

/* The weights, packed: (panel, step, 2, 16 pairs of atoms, 16 columns, 2) */
static size_t packed_bytes(const struct conv_shape *s, enum conv_use use)
{
    (void)use;
    return (size_t)panels_of(s) * steps_of(s) * 2 * TILE * sizeof(bf16);
}

static void pack(const struct conv_shape *s, enum conv_use use, const float *weights, void *packed, void *scratch)
{
    int columns = columns_of(s), steps = steps_of(s);
    (void)use, (void)scratch;
    for (int t = 0; t < panels_of(s) * steps * 2; t++) {
        int step = t / 2 % steps, at = t / 2 / steps * 2 * EDGE + t % 2 * EDGE, d = step * DEPTH;
        pack_adjoint_tile(weights + (size_t)d * columns + at, columns, columns - at, s->d - d,
                          (bf16 *)packed + (size_t)t * TILE);
    }
}

/* A thread's scratch: that of col2im.h, and the codes of 32 pixels as tiles (2, step, 16, 32). */
static size_t thread_bytes(const struct conv_shape *s)
{
    return col2im_scratch_floats(s, pixel_stride_of(s), BLOCK) * sizeof(float);
}

static size_t tiles_bytes(const struct conv_shape *s)
{
    return (size_t)2 * steps_of(s) * TILE * sizeof(bf16);
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    (void)use;
    return threads * (thread_bytes(s) + tiles_bytes(s));
}

struct run {
    struct col2im rows;
    bf16 *tiles; /* of this thread */
};

static void pack_codes(const struct conv_shape *s, const bf16 *codes, int count, bf16 *tiles)
{
    for (int p = 0; p < 2 * EDGE; p++)
        for (int step = 0; step < steps_of(s); step++) {
            __mmask32 mask = p < count ? mask_of_first(s->d - step * DEPTH) : 0;
            const bf16 *from = p < count ? codes + (size_t)p * s->d + step * DEPTH : codes;
            _mm512_store_si512(tiles + ((size_t)(p / EDGE * steps_of(s) + step) * EDGE + p % EDGE) * DEPTH,
                               _mm512_maskz_loadu_epi16(mask, from));
        }
}

static void multiply_block(const struct col2im *m, size_t row, int column, int count, float *products)
{
    const struct conv_shape *s = m->shape;
    float sums[4 * RESULT] __attribute__((aligned(64)));
    bf16 *tiles = ((const struct run *)m)->tiles;
    const bf16 *codes = (const bf16 *)m->in + (row * conv_out_w(s) + column) * s->d;
    int steps = steps_of(s);
    bool in_place = count == BLOCK && s->d % DEPTH == 0 &&
                    steps <= MAX_PRODUCTS; /* if so, codes are read as tiles where they lie */
    if (!in_place)
        pack_codes(s, codes, count, tiles);
    for (int panel = 0; panel < panels_of(s); panel++) {
        const bf16 *right = (const bf16 *)m->packed + (size_t)panel * steps * 2 * TILE;
        struct operands list[MAX_PRODUCTS];
        for (int step = 0; in_place && step < steps; step++) {
            const bf16 *a = codes + step * DEPTH, *b = right + (size_t)step * 2 * TILE;
            list[step] = (struct operands){ { a, a + (size_t)EDGE * s->d }, { b, b + TILE } };
        }
        if (in_place) {
            multiply_packed(list, steps, 1, s->d, 2 * TILE, true, true, false, sums);
        } else {
            list[0] = (struct operands){ { tiles, tiles + (size_t)steps * TILE }, { right, right + TILE } };
            multiply_packed(list, 1, steps, DEPTH, 2 * TILE, count > EDGE, true, false, sums);
        }
        for (int p = 0; p < count; p++) {
            const float *from = sums + p / EDGE * 2 * RESULT + p % EDGE * EDGE;
            float *to = products + p * m->pixel_stride + (size_t)panel * 2 * EDGE;
            _mm512_storeu_ps(to, _mm512_load_ps(from));
            _mm512_storeu_ps(to + EDGE, _mm512_load_ps(from + RESULT));
        }
    }
}

static void finish_row(const struct col2im *m, const float *sums, int count, size_t at)
{
    for (int i = 0; i < count; i += 2 * EDGE, sums += 2 * EDGE, at += 2 * EDGE) {
        __mmask32 mask = mask_of_first(count - i);
        store_32(m->epilogue, _mm512_maskz_loadu_ps((__mmask16)mask, sums),
                 _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), sums + EDGE), at, mask, m->out);
    }
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct epilogue e = *epilogue;
    (void)use;
    if (e.kind != EPILOGUE_LINEAR) {
        e.alpha *= e.nu;
        e.beta *= e.nu;
    }
#pragma omp parallel
    {
        struct run r = { { s, &e, in, packed, out, pixel_stride_of(s), BLOCK, multiply_block, finish_row },
                         (bf16 *)((char *)scratch + threads * thread_bytes(s) + thread_number() * tiles_bytes(s)) };
        begin_tiles();
        col2im_run(&r.rows, threads, scratch);
        end_tiles();
    }
}

const struct conv_algorithm ISA_NAME(bf16_few_channels) = {
    .name = "bf16_few_channels",
    .fits = fits,
    .packed_bytes = packed_bytes,
    .scratch_bytes = scratch_bytes,
    .pack = pack,
    .run = run,
};
