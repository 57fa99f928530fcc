/* bf16_tiles.h - products of bf16 tiles with fp32 sums, by AMX or by AVX-512's bf16 instructions, and what the files
 * bf16*.c need beside them.
 * A left operand is a tile of 16 rows of 32 values. A right operand is a tile of 16 rows of 16 pairs: row i holds
 * values 2 i and 2 i + 1 of each column. A result is 16 x 16 floats. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_BF16_TILES_H
#define CSC_LAYERS_BACKEND_CPU_ISA_BF16_TILES_H

#include <immintrin.h>
#include <string.h>

#include "base/integer.h"
#include "layers/backend/cpu/isa/algorithms.h"
#include "layers/backend/cpu/threads.h"
#include "layers/backend/element.h"

enum {
    EDGE = 16,               /* rows of a tile, and columns of a result */
    DEPTH = 32,              /* values that one product of tiles sums */
    TILE = EDGE * DEPTH,     /* values of an operand */
    RESULT = EDGE * EDGE,    /* floats of a result */
    GATHER_MAX_CHANNELS = 8, /* images of more channels are never gathered, see enum gather */
    GATHER_MAX_VALUES = 512, /* nor are more values of a row of taps */
    MAX_PRODUCTS = 64,       /* products that are summed before the sums are stored */
    CACHE_BYTES = 768 << 10, /* packed operands of this size stay in a thread's L2 cache */
};

/* The gradients of all shapes, from bf16_gradient.c, and the bytes of their scratch. */
void ISA_NAME(bf16_gradient)(const struct conv_shape *s, const struct gradient_term *terms, int count, float *dw,
                             int threads, void *scratch);
size_t ISA_NAME(bf16_gradient_bytes)(const struct conv_shape *s, int threads);

/* Kernels for some shapes, from the files of these names. */
extern const struct conv_algorithm ISA_NAME(bf16_few_channels), ISA_NAME(bf16_wide_rows),
    ISA_NAME(bf16_wide_rows_gradient), ISA_NAME(bf16_one_image);

static inline __mmask32 mask_of_first(int count)
{
    return count >= 32 ? 0xffffffff : count <= 0 ? 0 : (1u << count) - 1;
}

/* ---- epilogues ---- */

/* 32 floats. */
struct floats {
    __m512 low, high;
};

static inline struct floats widen(const bf16 *from, __mmask32 mask)
{
    __m512i bits = _mm512_maskz_loadu_epi16(mask, from);
    __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(bits));
    __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(bits, 1));
    return (struct floats){ _mm512_castsi512_ps(_mm512_slli_epi32(low, 16)),
                            _mm512_castsi512_ps(_mm512_slli_epi32(high, 16)) };
}

/* f of v = alpha conv + beta add, with mask m. Unless the epilogue is linear, alpha and beta already contain nu.
 * Keeps NaN. */
static inline __m512 epilogue_function(const struct epilogue *e, __m512 v, __m512 m)
{
    const __m512 zero = _mm512_setzero_ps();
    if (e->kind == EPILOGUE_MASK)
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(m, zero, _CMP_NEQ_UQ), v);
    if (e->kind == EPILOGUE_LINEAR)
        return v;
    __m512 threshold = _mm512_set1_ps(e->threshold);
    if (e->nonnegative) {
        v = _mm512_sub_ps(v, threshold);
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, zero, _CMP_NLT_UQ), v);
    }
    __m512i sign = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN));
    __m512 shrunk = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), sign)), threshold);
    __mmask16 kept = _mm512_cmp_ps_mask(shrunk, zero, _CMP_NLE_UQ);
    return _mm512_castsi512_ps(_mm512_maskz_or_epi32(kept, _mm512_castps_si512(shrunk), sign));
}

/* Finished sums of 32 channels of up to 32 pixels, in two runs of up to 16. Their epilogue is applied, and they are
 * stored, one pixel at a time while the next sums are computed. */
struct pending {
    const struct epilogue *epilogue;
    bf16 *out;
    const float *sums;   /* (run, half of the channels, pixel, 16) */
    int next;            /* the next pixel of 32; 32 if nothing is pending */
    int count[2];        /* pixels of each run */
    size_t at[2];        /* where each run begins, in values from the output's start */
    size_t pixel_stride; /* values from one pixel of a run to the next */
    __mmask32 mask;      /* the channels that exist */
};

/* Applies the epilogue to 32 sums and stores those under the mask from value `at` of the output on. */
static inline __attribute__((always_inline)) void store_32(const struct epilogue *e, __m512 low, __m512 high, size_t at,
                                                           __mmask32 mask, bf16 *out)
{
    __m512 alpha = _mm512_set1_ps(e->alpha), beta = _mm512_set1_ps(e->beta);
    struct floats v = { _mm512_mul_ps(alpha, low), _mm512_mul_ps(alpha, high) };
    struct floats m = { _mm512_setzero_ps(), _mm512_setzero_ps() };
    if (e->add) {
        struct floats add = widen((const bf16 *)e->add + at, mask);
        v.low = _mm512_fmadd_ps(beta, add.low, v.low);
        v.high = _mm512_fmadd_ps(beta, add.high, v.high);
    }
    if (e->mask)
        m = widen((const bf16 *)e->mask + at, mask);
    __m512i line = (__m512i)_mm512_cvtne2ps_pbh(epilogue_function(e, v.high, m.high),
                                                epilogue_function(e, v.low, m.low));
    _mm512_mask_storeu_epi16(out + at, mask, line);
}

static inline __attribute__((always_inline)) void store_pixel(const struct epilogue *e, const float *sums, size_t at,
                                                              __mmask32 mask, bf16 *out)
{
    store_32(e, _mm512_load_ps(sums), _mm512_load_ps(sums + RESULT), at, mask, out);
}

static inline __attribute__((always_inline)) void store_next_pending(struct pending *p)
{
    int run = p->next / EDGE, i = p->next % EDGE;
    if (run > 1)
        return;
    p->next++;
    if (i < p->count[run])
        store_pixel(p->epilogue, p->sums + run * 2 * RESULT + i * EDGE, p->at[run] + i * p->pixel_stride, p->mask,
                    p->out);
}

static inline void store_all_pending(struct pending *p)
{
    while (p->next < 2 * EDGE)
        store_next_pending(p);
}

/* ---- products of tiles ---- */

/* Left tiles a and right tiles b. The second ones may be unused. */
struct operands {
    const bf16 *a[2], *b[2];
};

#ifdef __AMX_BF16__
/* All eight registers hold 16 rows of 64 bytes. Static, because gcc does not see that _tile_loadconfig reads all of
 * it. */
static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
} tile_registers = {
    1, 0, { 0 }, { 64, 64, 64, 64, 64, 64, 64, 64 }, { EDGE, EDGE, EDGE, EDGE, EDGE, EDGE, EDGE, EDGE }
};

static inline void begin_tiles(void)
{
    _tile_loadconfig(&tile_registers);
}

static inline void end_tiles(void)
{
    _tile_release();
}

/* sums (left, right, 16, 16) = products of the tiles of the list, plus the sums themselves if `add`. Each entry of
 * the list stands for `steps` tiles, a_step and b_step values apart. Rows of a left tile are a_row values apart, and
 * may overlap.
 * Meanwhile each entry prefetches `prefetched` cache lines from `next` on, and each step stores `stored` pending
 * pixels. */
static inline __attribute__((always_inline)) void multiply_tiles(const struct operands *list, int count, int steps,
                                                                 size_t a_step, size_t a_row, size_t b_step,
                                                                 bool two_left, bool two_right, bool add, float *sums,
                                                                 const bf16 *next, int prefetched,
                                                                 struct pending *pending, int stored)
{
    __asm__ volatile("" ::: "memory"); /* gcc does not know that tile loads read memory */
    if (add) {
        _tile_loadd(0, sums, 64);
        if (two_right)
            _tile_loadd(1, sums + RESULT, 64);
        if (two_left)
            _tile_loadd(2, sums + 2 * RESULT, 64);
        if (two_left && two_right)
            _tile_loadd(3, sums + 3 * RESULT, 64);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int i = 0; i < count; i++) {
        struct operands o = list[i];
        for (int f = 0; f < prefetched; f++, next += DEPTH)
            _mm_prefetch((const char *)next, _MM_HINT_T1);
        for (int s = 0; s < steps; s++) {
            _tile_loadd(4, o.a[0] + s * a_step, a_row * sizeof(bf16));
            _tile_loadd(6, o.b[0] + s * b_step, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (two_right) {
                _tile_loadd(7, o.b[1] + s * b_step, 64);
                _tile_dpbf16ps(1, 4, 7);
            }
            if (two_left) {
                _tile_loadd(5, o.a[1] + s * a_step, a_row * sizeof(bf16));
                _tile_dpbf16ps(2, 5, 6);
                if (two_right)
                    _tile_dpbf16ps(3, 5, 7);
            }
            for (int p = 0; pending && p < stored; p++)
                store_next_pending(pending);
        }
    }
    _tile_stored(0, sums, 64);
    if (two_right)
        _tile_stored(1, sums + RESULT, 64);
    if (two_left)
        _tile_stored(2, sums + 2 * RESULT, 64);
    if (two_left && two_right)
        _tile_stored(3, sums + 3 * RESULT, 64);
}
#else
static inline void begin_tiles(void)
{
}

static inline void end_tiles(void)
{
}

static inline __attribute__((always_inline)) void multiply_tile(const struct operands *list, int count, int steps,
                                                                size_t a_step, size_t a_row, size_t b_step, int left,
                                                                int right, bool add, float *sums)
{
    __m512 s[EDGE];
#pragma GCC unroll 16
    for (int row = 0; row < EDGE; row++)
        s[row] = add ? _mm512_loadu_ps(sums + row * EDGE) : _mm512_setzero_ps();
    for (int i = 0; i < count; i++)
        for (int step = 0; step < steps; step++) {
            const bf16 *a = list[i].a[left] + step * a_step, *b = list[i].b[right] + step * b_step;
            for (int pair = 0; pair < EDGE; pair++) {
                __m512bh columns = (__m512bh)_mm512_loadu_si512(b + pair * DEPTH);
#pragma GCC unroll 16
                for (int row = 0; row < EDGE; row++) {
                    int factors;
                    memcpy(&factors, a + row * a_row + 2 * pair, sizeof factors);
                    s[row] = _mm512_dpbf16_ps(s[row], (__m512bh)_mm512_set1_epi32(factors), columns);
                }
            }
        }
#pragma GCC unroll 16
    for (int row = 0; row < EDGE; row++)
        _mm512_storeu_ps(sums + row * EDGE, s[row]);
}

static inline __attribute__((always_inline)) void multiply_tiles(const struct operands *list, int count, int steps,
                                                                 size_t a_step, size_t a_row, size_t b_step,
                                                                 bool two_left, bool two_right, bool add, float *sums,
                                                                 const bf16 *next, int prefetched,
                                                                 struct pending *pending, int stored)
{
    for (int i = 0; pending && i < count * steps * stored; i++)
        store_next_pending(pending);
    for (int i = 0; i < count * prefetched; i++)
        _mm_prefetch((const char *)(next + i * DEPTH), _MM_HINT_T1);
    for (int left = 0; left <= two_left; left++)
        for (int right = 0; right <= two_right; right++)
            multiply_tile(list, count, steps, a_step, a_row, b_step, left, right, add,
                          sums + (2 * left + right) * RESULT);
}
#endif

static inline __attribute__((always_inline)) void multiply_overlapped(const struct operands *list, int count, int steps,
                                                                      size_t a_step, size_t a_row, size_t b_step,
                                                                      bool two_left, bool two_right, bool add,
                                                                      float *sums, const bf16 *next, int prefetched,
                                                                      struct pending *pending, int stored)
{
    if (two_left && two_right)
        multiply_tiles(list, count, steps, a_step, a_row, b_step, true, true, add, sums, next, prefetched, pending,
                       stored);
    else if (two_left)
        multiply_tiles(list, count, steps, a_step, a_row, b_step, true, false, add, sums, next, prefetched, pending,
                       stored);
    else if (two_right)
        multiply_tiles(list, count, steps, a_step, a_row, b_step, false, true, add, sums, next, prefetched, pending,
                       stored);
    else
        multiply_tiles(list, count, steps, a_step, a_row, b_step, false, false, add, sums, next, prefetched, pending,
                       stored);
}

static inline __attribute__((always_inline)) void multiply_only(const struct operands *list, int count, int steps,
                                                                size_t a_step, size_t a_row, size_t b_step,
                                                                bool two_left, bool two_right, bool add, float *sums)
{
    multiply_overlapped(list, count, steps, a_step, a_row, b_step, two_left, two_right, add, sums, NULL, 0, NULL, 0);
}

/* The same for packed left tiles. */
static inline __attribute__((always_inline)) void multiply_packed(const struct operands *list, int count, int steps,
                                                                  size_t a_row, size_t b_step, bool two_left,
                                                                  bool two_right, bool add, float *sums)
{
    multiply_only(list, count, steps, TILE, a_row, b_step, two_left, two_right, add, sums);
}

/* ---- packing ---- */

/* Images of few channels would leave most of a tile's 32 values empty. So the values that several taps of an output
 * pixel read are gathered as its channels: those of one row of the kernel, or those of all its taps. */
enum gather {
    GATHER_NONE,
    GATHER_ROW, /* a packed row of the image serves several rows of output */
    GATHER_ALL, /* only where all taps fit one product and rows are too short for bf16_wide_rows.c */
};

static inline enum gather gather_of(const struct conv_shape *s)
{
    if (s->k == 1 || s->c > GATHER_MAX_CHANNELS || s->k * s->c > GATHER_MAX_VALUES)
        return GATHER_NONE;
    return s->k * s->k * s->c <= DEPTH && conv_out_w(s) < EDGE ? GATHER_ALL : GATHER_ROW;
}

/* Which of the values that a row of taps reads lie inside the image: [low, high). */
struct value_span {
    int low, high;
};

static inline struct value_span row_span(const struct conv_shape *s, int left)
{
    return (struct value_span){ left < 0 ? -left * s->c : 0, min_int(s->w - left, s->k) * s->c };
}

static inline __mmask32 span_mask(struct value_span in, int at)
{
    return mask_of_first(in.high - at) & ~mask_of_first(in.low - at);
}

/* The values (k,k,C) that all taps of output pixel (i, j) read, with 0 for those outside the image, which are not
 * loaded. */
static inline __m512i gather_all(const struct conv_shape *s, const bf16 *image, int i, int j)
{
    int left = j * s->stride - s->pad, top = i * s->stride - s->pad, row = s->k * s->c;
    int first = top < 0 ? -top : 0, last = min_int(s->h - top, s->k);
    struct value_span in = row_span(s, left);
    __m512i values = _mm512_setzero_si512();
    for (int a = first; a < last && in.low < in.high; a++)
        values = _mm512_mask_loadu_epi16(values, span_mask(in, -a * row),
                                         image + ((ptrdiff_t)(top + a) * s->w + left) * s->c - a * row);
    return values;
}

/* Transposes 16 rows of 16 values of 32 bits. */
static inline void transpose(__m512i r[EDGE])
{
    __m512i t[EDGE];
    for (int i = 0; i < EDGE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < EDGE; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* Interleaves the lower and the upper 16 values. */
static inline __m512i interleave(__m512i both)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, both);
}

/* Interleaves the first `count` of 32 values of a and of b, into two lines `line_stride` values apart. NULL stands
 * for zeros. */
static inline void pack_pair(const bf16 *a, const bf16 *b, int count, bf16 *to, size_t line_stride)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    __mmask32 mask = mask_of_first(count);
    __m512i first = a ? _mm512_maskz_loadu_epi16(mask, a) : _mm512_setzero_si512();
    __m512i second = b ? _mm512_maskz_loadu_epi16(mask, b) : _mm512_setzero_si512();
    _mm512_store_si512(to, _mm512_permutex2var_epi16(first, low, second));
    if (count > EDGE)
        _mm512_store_si512(to + line_stride,
                           _mm512_permutex2var_epi16(first, _mm512_add_epi16(low, _mm512_set1_epi16(EDGE)), second));
}

/* Packs a right tile of weights for an adjoint, whose pairs are two atoms. `row` is the distance of atoms in floats. */
static inline void pack_adjoint_tile(const float *from, size_t row, int outputs, int channels, bf16 *to)
{
    __mmask16 mask = (__mmask16)mask_of_first(outputs);
    for (int i = 0; i < EDGE; i++) {
        __m512 even = _mm512_setzero_ps(), odd = even;
        if (2 * i < channels)
            even = _mm512_maskz_loadu_ps(mask, from + 2 * i * row);
        if (2 * i + 1 < channels)
            odd = _mm512_maskz_loadu_ps(mask, from + (2 * i + 1) * row);
        _mm512_store_si512(to + i * DEPTH, interleave((__m512i)_mm512_cvtne2ps_pbh(odd, even)));
    }
}

#endif
