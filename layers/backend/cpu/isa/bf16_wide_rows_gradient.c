/* bf16_wide_rows_gradient.c - bf16 weight gradients of wide images of few channels, as at a network's stem:
 *   dW (k k C, D) = sum over output rows and pixels of  X (k k C, 32 pixels) Z (32 pixels, D)
 * What tap (b, channel) reads of a row of the image, for all pixels of an output row, is laid out as a line. The
 * lines of the k C taps of a row follow each other, and so do the rows, so the lines of all k k C taps of an output
 * row are a constant step apart and load as tiles. Compiled as bf16.c is. */
#include "layers/backend/cpu/isa/bf16_tiles.h"

enum { MAX_PHASES = 16, BLOCK_BYTES = 512 << 10 /* lines and codes of this size stay in a thread's L2 cache */ };

struct tap_lines {
    int taps, all_taps;   /* k C, of a row of the kernel, and k k C */
    int phases;           /* stride C: distance of what a tap reads for neighbouring pixels, in values */
    int left_zeros;       /* zeros before a row of the image, a multiple of phases */
    int steps;            /* groups of 32 pixels of an output row */
    size_t line_values;   /* values of a line */
    size_t padded_values; /* values of a row of the image with its zeros */
    int phase_pixels;     /* every phases'th value of such a row is copied together: how many these are */
    int tap_tiles;        /* groups of 16 taps */
    int atom_tiles;       /* groups of 16 atoms */
    int rows, image_rows; /* of the output at a time, and of the image that those read */
};

static struct tap_lines tap_lines_of(const struct conv_shape *s)
{
    struct tap_lines l = { .taps = s->k * s->c, .all_taps = s->k * s->k * s->c, .phases = s->stride * s->c };
    l.left_zeros = ceil_div(s->pad, s->stride) * l.phases;
    l.steps = ceil_div(conv_out_w(s), DEPTH);
    l.line_values = (size_t)(l.steps + 1) * DEPTH; /* one more cache line, so that a tile spreads over cache sets */
    l.phase_pixels = ceil_div(l.steps * DEPTH + (l.left_zeros + l.taps) / l.phases + 1, DEPTH) * DEPTH;
    size_t row_values = l.left_zeros + (size_t)s->w * s->c, read = (size_t)(l.phase_pixels + 2 * DEPTH) * l.phases;
    l.padded_values = ((row_values > read ? row_values : read) + 2 * DEPTH) / DEPTH * DEPTH;
    l.tap_tiles = ceil_div(l.all_taps, EDGE);
    l.atom_tiles = ceil_div(s->d, EDGE);
    size_t row = (s->stride * l.taps * l.line_values + (size_t)l.steps * l.atom_tiles * TILE) * sizeof(bf16);
    l.rows = min_int((int)(BLOCK_BYTES / row), conv_out_h(s));
    l.rows = l.rows < 1 ? 1 : l.rows;
    l.image_rows = (l.rows - 1) * s->stride + s->k;
    return l;
}

static bool fits(const struct conv_shape *s, enum conv_use use)
{
    int w = conv_out_w(s);
    return use == CONV_GRADIENT && gather_of(s) != GATHER_NONE && s->stride * s->c <= MAX_PHASES &&
           s->k * s->k * s->c > EDGE && 3 * ceil_div(w, DEPTH) * DEPTH <= 4 * w;
}

/* ---- scratch of a thread: lines, codes, a padded row, its phases ---- */

static size_t lines_values(const struct tap_lines *l) /* the last tile reads past the last line */
{
    return ((size_t)l->image_rows * l->taps + EDGE) * l->line_values;
}

static size_t codes_values(const struct tap_lines *l)
{
    return (size_t)l->rows * l->steps * l->atom_tiles * TILE;
}

static size_t thread_values(const struct tap_lines *l)
{
    size_t values = lines_values(l) + codes_values(l) + l->padded_values + (size_t)l->phases * l->phase_pixels;
    return (values + 2047) / 2048 * 2048 + ARENA_ALIGN / sizeof(bf16);
}

static size_t sum_floats(const struct tap_lines *l)
{
    return (size_t)ceil_div(l->tap_tiles, 2) * ceil_div(l->atom_tiles, 2) * 4 * RESULT;
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    struct tap_lines l = tap_lines_of(s);
    (void)use;
    return threads * (thread_values(&l) * sizeof(bf16) + sum_floats(&l) * sizeof(float));
}

/* ---- packing ---- */

/* The 32 values row[phase], row[phase + phases], ... */
static inline __m512i gather_phase(const bf16 *row, int phases, int phase)
{
    const __m512i count = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13,
                                           12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i at = _mm512_add_epi16(_mm512_mullo_epi16(count, _mm512_set1_epi16((short)phases)),
                                  _mm512_set1_epi16((short)phase));
    __m512i values = _mm512_setzero_si512();
    for (int from = 0; from < phases * DEPTH; from += 2 * DEPTH) {
        __m512i index = _mm512_sub_epi16(at, _mm512_set1_epi16((short)from));
        __mmask32 mask = _mm512_cmplt_epu16_mask(index, _mm512_set1_epi16(2 * DEPTH));
        values = _mm512_mask_mov_epi16(
            values, mask,
            _mm512_permutex2var_epi16(_mm512_loadu_si512(row + from), index, _mm512_loadu_si512(row + from + DEPTH)));
    }
    return values;
}

/* Lays out the lines of one row of the image. NULL stands for a row outside it. */
static void pack_lines(const struct conv_shape *s, const struct tap_lines *l, const bf16 *row, bf16 *padded,
                       bf16 *phases, bf16 *to)
{
    int w = conv_out_w(s);
    if (!row) {
        memset(to, 0, l->taps * l->line_values * sizeof *to);
        return;
    }
    memcpy(padded + l->left_zeros, row, (size_t)s->w * s->c * sizeof *row);
    for (int phase = 0; phase < l->phases; phase++)
        for (int j = 0; j < l->phase_pixels; j += DEPTH)
            _mm512_store_si512(phases + (size_t)phase * l->phase_pixels + j,
                               gather_phase(padded + (size_t)j * l->phases, l->phases, phase));
    for (int tap = 0; tap < l->taps; tap++) {
        int first = l->left_zeros - s->pad * s->c + tap;
        const bf16 *from = phases + (size_t)(first % l->phases) * l->phase_pixels + first / l->phases;
        for (int j = 0; j < w; j += DEPTH, to += DEPTH)
            _mm512_store_si512(to, _mm512_loadu_si512(from + j));
        to += DEPTH;
    }
}

/* Packs rows of codes as (row, step, tile of atoms, 16 pairs of pixels, 16 atoms, 2). Past the last pixel they stay
 * 0. */
static void pack_codes(const struct conv_shape *s, const struct tap_lines *l, const bf16 *codes, int rows, bf16 *to)
{
    int w = conv_out_w(s);
    for (int row = 0; row < rows; row++, codes += (size_t)w * s->d)
        for (int j = 0; j < w; j += 2) {
            bf16 *line = to + ((size_t)(row * l->steps + j / DEPTH) * l->atom_tiles * EDGE + j % DEPTH / 2) * DEPTH;
            const bf16 *from = codes + (size_t)j * s->d;
            for (int d = 0; d < s->d; d += 2 * EDGE, line += 2 * TILE)
                pack_pair(from + d, j + 1 < w ? from + s->d + d : NULL, s->d - d, line, TILE);
        }
}

/* ---- sums ---- */

/* Adds `rows` rows to sums (pair of tap tiles, pair of atom tiles, 2, 2, 16, 16). Prefetches as many codes from
 * `next` on. */
static void sum_block(const struct conv_shape *s, const struct tap_lines *l, int rows, const bf16 *x, const bf16 *z,
                      float *sums, const bf16 *next)
{
    int products = ceil_div(l->tap_tiles, 2) * ceil_div(l->atom_tiles, 2) * rows * l->steps;
    int prefetched = ceil_div(rows * conv_out_w(s) * s->d, products * DEPTH); /* cache lines at each product */
    for (int left = 0; left < l->tap_tiles; left += 2)
        for (int right = 0; right < l->atom_tiles; right += 2, sums += 4 * RESULT) {
            bool two_left = left + 1 < l->tap_tiles, two_right = right + 1 < l->atom_tiles;
            struct operands list[MAX_PRODUCTS];
            int count = 0;
            for (int row = 0; row < rows; row++)
                for (int step = 0; step < l->steps; step++) {
                    const bf16 *a = x + ((size_t)row * s->stride * l->taps + (size_t)left * EDGE) * l->line_values +
                                    step * DEPTH;
                    const bf16 *b = z + ((size_t)(row * l->steps + step) * l->atom_tiles + right) * TILE;
                    list[count++] = (struct operands){ { a, a + EDGE * l->line_values }, { b, b + TILE } };
                    if (count == MAX_PRODUCTS || (row == rows - 1 && step == l->steps - 1)) {
                        multiply_overlapped(list, count, 1, 0, l->line_values, 0, two_left, two_right, true, sums, next,
                                            prefetched, NULL, 0);
                        next += count * prefetched * DEPTH;
                        count = 0;
                    }
                }
        }
}

/* Adds output rows [from, to) of image n to the sums. */
static void sum_rows(const struct conv_shape *s, const struct tap_lines *l, const struct gradient_term *term, int n,
                     int from, int to, bf16 *buffer, float *sums)
{
    bf16 *codes = buffer + lines_values(l), *padded = codes + codes_values(l), *phases = padded + l->padded_values;
    const bf16 *z = (const bf16 *)term->d + (size_t)n * conv_out_h(s) * conv_out_w(s) * s->d;
    const bf16 *image = (const bf16 *)term->x + (size_t)n * s->h * s->w * s->c;
    size_t line = l->taps * l->line_values, codes_row = (size_t)conv_out_w(s) * s->d;
    for (int row = from; row < to; row += l->rows) {
        int count = min_int(l->rows, to - row), top = row * s->stride - s->pad,
            image_rows = (count - 1) * s->stride + s->k, reused = 0;
        if (row > from && s->k > s->stride) { /* the first lines were read by the rows before these */
            reused = s->k - s->stride;
            memmove(buffer, buffer + (size_t)(l->image_rows - reused) * line, reused * line * sizeof *buffer);
        }
        for (int y = reused; y < image_rows; y++)
            pack_lines(s, l, top + y >= 0 && top + y < s->h ? image + (size_t)(top + y) * s->w * s->c : NULL, padded,
                       phases, buffer + y * line);
        pack_codes(s, l, z + row * codes_row, count, codes);
        sum_block(s, l, count, buffer, codes, sums, z + (row + count) * codes_row);
    }
}

/* dw (D,k,k,C) += alpha times the sums of all threads, for one tile of atoms. */
static void add_sums(const struct conv_shape *s, const struct tap_lines *l, int tile, float alpha, const float *sums,
                     int threads, float *dw)
{
    for (int tap = 0; tap < l->all_taps; tap++) {
        size_t unit = (size_t)(tap / (2 * EDGE)) * ceil_div(l->atom_tiles, 2) + tile / 2;
        const float *from = sums + unit * 4 * RESULT + (tap / EDGE % 2 * 2 + tile % 2) * RESULT + tap % EDGE * EDGE;
        for (int d = 0; d < EDGE && tile * EDGE + d < s->d; d++) {
            float sum = 0;
            for (int t = 0; t < threads; t++)
                sum += from[t * sum_floats(l) + d];
            dw[(size_t)(tile * EDGE + d) * l->all_taps + tap] += alpha * sum;
        }
    }
}

/* Adds terms of the same alpha to dw. Called by every thread of a parallel region. */
static void add_terms(const struct conv_shape *s, const struct tap_lines *l, const struct gradient_term *terms,
                      int count, float *dw, int threads, bf16 *buffer, float *sums)
{
    int spans = s->n % threads == 0 ? 1 : min_int(threads, conv_out_h(s)), rows = conv_out_h(s);
    memset(sums + thread_number() * sum_floats(l), 0, sum_floats(l) * sizeof *sums);
#pragma omp for schedule(static)
    for (int unit = 0; unit < count * s->n * spans; unit++) {
        int span = unit % spans;
        sum_rows(s, l, &terms[unit / spans / s->n], unit / spans % s->n, rows * span / spans, rows * (span + 1) / spans,
                 buffer, sums + thread_number() * sum_floats(l));
    }
#pragma omp for schedule(static)
    for (int tile = 0; tile < l->atom_tiles; tile++)
        add_sums(s, l, tile, terms->alpha, sums, thread_count(), dw);
}

static void gradient(const struct conv_shape *s, const struct gradient_term *terms, int count, float *dw, int threads,
                     void *scratch)
{
    struct tap_lines l = tap_lines_of(s);
    bf16 *buffers = (bf16 *)((float *)scratch + threads * sum_floats(&l));
#pragma omp parallel
    {
        bf16 *buffer = buffers + thread_number() * thread_values(&l);
        memset(buffer, 0, thread_values(&l) * sizeof *buffer);
        begin_tiles();
        for (int from = 0, to; from < count; from = to) {
            for (to = from + 1; to < count && terms[to].alpha == terms[from].alpha; to++)
                continue;
            if (terms[from].alpha != 0)
                add_terms(s, &l, terms + from, to - from, dw, threads, buffer, scratch);
        }
        end_tiles();
    }
}

const struct conv_algorithm ISA_NAME(bf16_wide_rows_gradient) = {
    .name = "bf16_wide_rows_gradient",
    .fits = fits,
    .scratch_bytes = scratch_bytes,
    .gradient = gradient,
};
