/* bf16_wide_rows.c - bf16 convolutions of wide images of few channels, as at ImageNet's stem.
 * A forward pass reads, for 16 columns of the output and one row of the kernel, 16 overlapping runs of k C values in
 * one row of the image. These load as a tile from where they lie, so only the image's border is copied:
 *     run j starts at column stride j - pad:   [ . . . k C . . . | values of weight 0 ]   32 values
 * The adjoint computes stride m columns of a row of the image, up to 16 values, from a window of columns of codes,
 * with m = step_columns and the weights of each row of the kernel as a matrix (window, stride m C):
 *     window t starts at column m t + first_column:   [ columns D ]   a multiple of 32 values
 * Two rows of the image are computed together.
 * A value that is not finite also reaches a few neighbouring columns.
 * Compiled as bf16.c is. */
#include "layers/backend/cpu/isa/bf16_tiles.h"

enum { PREFETCHED = 3 }; /* cache lines of the next codes, at each product */

/* ---- adjoint ---- */

struct windows {
    int step_columns; /* columns of codes from one window to the next */
    int first_column; /* column of the first window; not positive */
    int outputs;      /* values of the image that a window gives */
    int count;        /* windows of a row */
    int steps;        /* groups of 32 values of a window */
    int ring;         /* rows of codes that two rows of the image read; row y is at y % ring */
    size_t row;       /* values of a row of codes with its zeros, as far as tiles read */
};

static struct windows windows_of(const struct conv_shape *s)
{
    struct windows w = { .step_columns = EDGE / (s->stride * s->c),
                         .first_column = -((s->k - 1 - s->pad) / s->stride) };
    int columns = (s->stride * w.step_columns - 1 + s->pad) / s->stride - w.first_column + 1;
    w.outputs = s->stride * w.step_columns * s->c;
    w.count = ceil_div(s->w, s->stride * w.step_columns);
    w.steps = ceil_div(columns * s->d, DEPTH);
    w.ring = s->k / s->stride + 2;
    size_t read = (size_t)(ceil_div(w.count, 2 * EDGE) * 2 * EDGE - 1) * w.step_columns * s->d +
                  (size_t)w.steps * DEPTH;
    size_t code_values = (size_t)(conv_out_w(s) - w.first_column) * s->d;
    w.row = ((read > code_values ? read : code_values) + DEPTH) / DEPTH * DEPTH;
    return w;
}

/* Half of the products are with weights of 0. Only AMX is fast enough for that. */
static bool fits_adjoint(const struct conv_shape *s)
{
#ifdef __AMX_BF16__
    const bool has_amx = true;
#else
    const bool has_amx = false;
#endif
    return has_amx && s->k > 1 && s->pad < s->k && s->stride * s->c <= EDGE && windows_of(s).count >= EDGE;
}

static size_t packed_bytes(const struct conv_shape *s, enum conv_use use)
{
    (void)use;
    return (size_t)s->k * windows_of(s).steps * TILE * sizeof(bf16);
}

/* The weights (D,k,k,C) with which value `at` of a window adds to its outputs by row a of the kernel. */
static __m512 weights_of(const struct conv_shape *s, const struct windows *w, const float *weights, int a, int at)
{
    int column = at / s->d, d = at % s->d, row = s->k * s->c;
    int from = (s->pad - s->stride * (column + w->first_column)) *
               s->c; /* what output 0 reads in the kernel's row, or before it */
    int low = from < 0 ? -from : 0, high = min_int(row - from, w->outputs);
    if (low >= high)
        return _mm512_setzero_ps();
    __mmask16 mask = (__mmask16)(mask_of_first(high) & ~mask_of_first(low));
    return _mm512_maskz_loadu_ps(mask, weights + ((ptrdiff_t)d * s->k + a) * row + from);
}

/* Packed as (row of the kernel, step, 16 pairs of the window's values, 16 outputs, 2). */
static void pack(const struct conv_shape *s, enum conv_use use, const float *weights, void *packed, void *scratch)
{
    struct windows w = windows_of(s);
    bf16 *to = packed;
    (void)use, (void)scratch;
    for (int a = 0; a < s->k; a++)
        for (int at = 0; at < w.steps * DEPTH; at += 2, to += 2 * EDGE)
            _mm512_store_si512(to, interleave((__m512i)_mm512_cvtne2ps_pbh(weights_of(s, &w, weights, a, at + 1),
                                                                           weights_of(s, &w, weights, a, at))));
}

/* To which of two rows of the image, `top` and the next, a row y of codes adds. */
enum reach { REACH_BOTH, REACH_FIRST, REACH_SECOND, REACH_NONE };

static enum reach reach_of(const struct conv_shape *s, int top, int y)
{
    int a = top + s->pad - s->stride * y;
    bool first = a >= 0 && a < s->k, second = a >= -1 && a < s->k - 1 && top + 1 < s->h;
    return first && second ? REACH_BOTH : first ? REACH_FIRST : second ? REACH_SECOND : REACH_NONE;
}

/* Computes what the rows of codes of one reach add to `top` and the next row, for 32 windows from `codes` on, and
 * adds it to sums (windows, rows); REACH_BOTH comes first and overwrites them. Prefetches from `next` on, and
 * returns where that ended. */
static const bf16 *sum_reach(const struct conv_shape *s, const struct windows *w, enum reach reach, int top,
                             const bf16 *codes, const bf16 *packed, bool two_left, float *sums, const bf16 *next)
{
    struct operands list[MAX_PRODUCTS];
    size_t step = (size_t)w->step_columns * s->d;
    bool add = reach != REACH_BOTH;
    int count = 0, from = top + s->pad < s->k ? 0 : (top + s->pad - s->k) / s->stride;
    int to = min_int((top + 1 + s->pad) / s->stride + 1, conv_out_h(s));
    sums += reach == REACH_SECOND ? RESULT : 0;
    for (int y = from; y < to; y++) {
        if (reach_of(s, top, y) != reach)
            continue;
        const bf16 *a = codes + y % w->ring * w->row;
        const bf16 *b = packed + (ptrdiff_t)(top + s->pad - s->stride * y + (reach == REACH_SECOND)) * w->steps * TILE;
        for (int i = 0; i < w->steps; i++, a += DEPTH, b += TILE) {
            list[count++] = (struct operands){ { a, a + EDGE * step },
                                               { b, b + (reach == REACH_BOTH ? w->steps * TILE : 0) } };
            if (count == MAX_PRODUCTS) {
                multiply_overlapped(list, count, 1, 0, step, 0, two_left, reach == REACH_BOTH, add, sums, next,
                                    PREFETCHED, NULL, 0);
                next += count * PREFETCHED * DEPTH;
                add = true;
                count = 0;
            }
        }
    }
    if (count > 0 || !add)
        multiply_overlapped(list, count, 1, 0, step, 0, two_left, reach == REACH_BOTH, add, sums, next, PREFETCHED,
                            NULL, 0);
    return next + count * PREFETCHED * DEPTH;
}

/* Applies the epilogue to the sums of 16 windows from t on, and stores them in the row of the image that begins at
 * `at`. */
static void store_windows(const struct conv_shape *s, const struct windows *w, const struct epilogue *e, int t,
                          const float *sums, size_t at, bf16 *out)
{
    __m512 alpha = _mm512_set1_ps(e->alpha), beta = _mm512_set1_ps(e->beta);
    for (int i = 0; i < EDGE && t + i < w->count; i++, sums += EDGE) {
        int first = (t + i) * w->outputs;
        __mmask16 mask = (__mmask16)mask_of_first(min_int(w->outputs, s->w * s->c - first));
        __m512 v = _mm512_mul_ps(alpha, _mm512_load_ps(sums)), m = _mm512_setzero_ps();
        if (e->add)
            v = _mm512_fmadd_ps(beta, widen((const bf16 *)e->add + at + first, mask).low, v);
        if (e->mask)
            m = widen((const bf16 *)e->mask + at + first, mask).low;
        _mm256_mask_storeu_epi16(out + at + first, mask, (__m256i)_mm512_cvtneps_pbh(epilogue_function(e, v, m)));
    }
}

/* Computes rows [from, to) of image n. */
static void run_adjoint(const struct conv_shape *s, const struct epilogue *e, int n, int from, int to, const bf16 *in,
                        const bf16 *packed, bf16 *ring, bf16 *out)
{
    struct windows w = windows_of(s);
    float sums[4 * RESULT] __attribute__((aligned(64)));
    size_t row = (size_t)conv_out_w(s) * s->d, image_row = (size_t)s->w * s->c;
    int loaded = 0; /* rows below this one are in the ring */
    for (int top = from; top < to; top += 2) {
        int end = min_int((top + 1 + s->pad) / s->stride + 1, conv_out_h(s));
        int first = top + s->pad < s->k ? 0 : (top + s->pad - s->k) / s->stride + 1;
        loaded = loaded < first ? first : loaded;
        for (; loaded < end; loaded++)
            memcpy(ring + loaded % w.ring * w.row - (ptrdiff_t)w.first_column * s->d,
                   in + ((size_t)n * conv_out_h(s) + loaded) * row, row * sizeof *in);
        const bf16 *next = in + ((size_t)n * conv_out_h(s) + loaded) * row;
        for (int t = 0; t < w.count; t += 2 * EDGE) {
            bool two_left = w.count - t > EDGE;
            const bf16 *codes = ring + (size_t)t * w.step_columns * s->d;
            for (enum reach reach = REACH_BOTH; reach < REACH_NONE; reach++)
                next = sum_reach(s, &w, reach, top, codes, packed, two_left, sums, next);
            for (int i = 0; i < 4; i++) {
                size_t at = ((size_t)n * s->h + top + i % 2) * image_row;
                if (top + i % 2 < to && (i < 2 || two_left))
                    store_windows(s, &w, e, t + i / 2 * EDGE, sums + i * RESULT, at, out);
            }
        }
    }
}

/* ---- forward ---- */

static bool fits_forward(const struct conv_shape *s)
{
    return gather_of(s) == GATHER_ROW && s->k * s->c <= DEPTH && s->k <= MAX_PRODUCTS && conv_out_w(s) >= EDGE;
}

/* Values of a row of the image with its zeros, as far as tiles read. */
static size_t row_values(const struct conv_shape *s)
{
    size_t image = (size_t)(s->w + 2 * s->pad) * s->c,
           read = (size_t)ceil_div(conv_out_w(s), 2 * EDGE) * 2 * EDGE * s->stride * s->c;
    return ((image > read ? image : read) + 2 * DEPTH) / DEPTH * DEPTH;
}

/* Computes output row i of one image. Row y of the image is in the ring at y % k. The last pixels stay pending. */
static void run_row(const struct conv_shape *s, const struct epilogue *e, int i, const bf16 *ring, const bf16 *weights,
                    size_t at, bf16 *out, struct pending *pending, float sums[2][4 * RESULT])
{
    struct operands list[MAX_PRODUCTS];
    int columns = conv_out_w(s);
    size_t step = (size_t)s->stride * s->c, panel_values = (size_t)s->k * 2 * TILE;
    for (int j = 0; j < columns; j += 2 * EDGE)
        for (int d = 0; d < s->d; d += 2 * EDGE) {
            int count = 0, pixels = min_int(columns - j, 2 * EDGE);
            bool two_left = pixels > EDGE, two_right = s->d - d > EDGE;
            for (int a = 0; a < s->k; a++) {
                int y = i * s->stride - s->pad + a;
                if (y < 0 || y >= s->h)
                    continue;
                const bf16 *from = ring + y % s->k * row_values(s) + j * step;
                const bf16 *w = weights + d / (2 * EDGE) * panel_values + (size_t)a * 2 * TILE;
                list[count++] = (struct operands){ { from, from + EDGE * step }, { w, w + TILE } };
            }
            float *next_sums = sums[pending->sums == sums[0]];
            if (!two_right)
                memset(next_sums, 0, 4 * RESULT * sizeof *next_sums);
            multiply_overlapped(list, count, 1, 0, step, 2 * TILE, two_left, two_right, false, next_sums, NULL, 0,
                                pending, count > 0 ? ceil_div(2 * EDGE, count) : 0);
            store_all_pending(pending);
            *pending = (struct pending){ .epilogue = e,
                                         .out = out,
                                         .sums = next_sums,
                                         .pixel_stride = s->d,
                                         .mask = mask_of_first(s->d - d),
                                         .count = { min_int(pixels, EDGE), two_left ? pixels - EDGE : 0 } };
            pending->at[0] = at + (size_t)j * s->d + d;
            pending->at[1] = pending->at[0] + (size_t)EDGE * s->d;
        }
}

/* Computes output rows [from, to) of image n. */
static void run_span(const struct conv_shape *s, const struct epilogue *e, int n, int from, int to, const bf16 *in,
                     const bf16 *weights, bf16 *ring, bf16 *out, struct pending *pending, float sums[2][4 * RESULT])
{
    size_t row = (size_t)s->w * s->c, result = (size_t)conv_out_w(s) * s->d;
    int loaded = from * s->stride - s->pad; /* rows below this one are in the ring */
    loaded = loaded < 0 ? 0 : loaded;
    for (int i = from; i < to; i++) {
        int end = min_int(i * s->stride - s->pad + s->k, s->h), first = i * s->stride - s->pad;
        loaded = loaded < first ? first : loaded; /* a stride above k skips rows */
        for (; loaded < end; loaded++)
            memcpy(ring + loaded % s->k * row_values(s) + s->pad * s->c, in + ((size_t)n * s->h + loaded) * row,
                   row * sizeof *in);
        run_row(s, e, i, ring, weights, ((size_t)n * conv_out_h(s) + i) * result, out, pending, sums);
    }
}

/* ---- whole convolutions ---- */

static bool fits(const struct conv_shape *s, enum conv_use use)
{
    return use == CONV_FORWARD ? fits_forward(s) : use == CONV_ADJOINT && fits_adjoint(s);
}

/* Bytes of a thread's ring of rows. */
static size_t ring_bytes(const struct conv_shape *s, enum conv_use use)
{
    size_t values = use == CONV_FORWARD ? s->k * row_values(s) : windows_of(s).ring * windows_of(s).row;
    return (values * sizeof(bf16) + 4095) / 4096 * 4096 + ARENA_ALIGN;
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    return threads * ring_bytes(s, use);
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct epilogue e = *epilogue;
    int rows = use == CONV_FORWARD ? conv_out_h(s) : s->h, spans = s->n % threads == 0 ? 1 : min_int(threads, rows);
    if (e.kind != EPILOGUE_LINEAR) {
        e.alpha *= e.nu;
        e.beta *= e.nu;
    }
#pragma omp parallel
    {
        float sums[2][4 * RESULT] __attribute__((aligned(64)));
        struct pending pending = { .next = 2 * EDGE };
        bf16 *ring = (bf16 *)((char *)scratch + thread_number() * ring_bytes(s, use));
        memset(ring, 0, ring_bytes(s, use));
        begin_tiles();
#pragma omp for schedule(static)
        for (int unit = 0; unit < s->n * spans; unit++) {
            int n = unit / spans, from = rows * (unit % spans) / spans, to = rows * (unit % spans + 1) / spans;
            if (use == CONV_FORWARD)
                run_span(s, &e, n, from, to, in, packed, ring, out, &pending, sums);
            else
                run_adjoint(s, &e, n, from, to, in, packed, ring, out);
        }
        store_all_pending(&pending);
        end_tiles();
    }
}

const struct conv_algorithm ISA_NAME(bf16_wide_rows) = {
    .name = "bf16_wide_rows",
    .fits = fits,
    .packed_bytes = packed_bytes,
    .scratch_bytes = scratch_bytes,
    .pack = pack,
    .run = run,
};
