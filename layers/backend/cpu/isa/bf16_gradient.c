/* bf16_gradient.c - bf16 weight gradients by products of 16x16 tiles, for 32 images at a time:
 *   dW (32 outputs, 32 channels) = sum over pixels of  D (32 outputs, 32 images) X (32 images, 32 channels)
 * With up to 16 images, two columns of the output are taken together to fill the 32 values of a product. Where
 * comments here say "pair of images", a pair is then one image at two columns. Compiled as bf16.c is. */
#include "layers/backend/cpu/isa/bf16_tiles.h"

#ifdef __AMX_BF16__
enum { HAS_THREE_TAPS = 1 };
#else
enum { HAS_THREE_TAPS = 0 };
#endif

/* x is packed as (row, c / 32, column, 2, 16 pairs of images, 16 channels, 2), d as (row, d / 32, column, 2, 16
 * outputs, 16 pairs of images, 2). A unit is the sums of one tap, 32 outputs and 32 channels: (2, 2, 16, 16).
 * With three_taps, x is packed as (row, c / 16, column, 16 pairs, 16 channels, 2), and a unit is the sums of three
 * taps in a row of the kernel, 32 outputs and 16 channels: (2, 3, 16, 16). */
struct gradient {
    int n, h, w, c, oh, ow, d;
    int k, stride, pad, taps;
    enum gather gather;
    bool column_pairs;    /* pairs are two columns; in x they are `stride` apart, and begin at column -stride */
    int x_width, d_width; /* pixels of a packed row */
    int x_tiles, d_tiles; /* groups of 16 channels of a pixel */
    int image_blocks;     /* groups of `images` images */
    int images;           /* 32, or 16 with column_pairs */
    int rows;             /* of d at a time */
    int ring;             /* packed rows of x that those read; row y is at y % ring */
    int spans;            /* parts of an image for different threads */
    bool three_taps;
    int panel_tiles; /* tiles of x in a panel: 2, or 1 with three_taps */
    int c_panels, d_panels;
    int units;
    size_t unit;      /* floats of a unit */
    bool split_units; /* threads share units, not rows: for more weights than pixels */
};

static size_t x_row(const struct gradient *g)
{
    return (size_t)g->x_width * g->c_panels * g->panel_tiles * TILE;
}

static size_t d_row(const struct gradient *g)
{
    return (size_t)g->d_width * g->d_panels * 2 * TILE;
}

static struct gradient gradient_of(const struct conv_shape *s, int threads)
{
    struct gradient g = { .n = s->n,
                          .h = s->h,
                          .w = s->w,
                          .c = s->c,
                          .oh = conv_out_h(s),
                          .ow = conv_out_w(s),
                          .d = s->d,
                          .k = s->k,
                          .stride = s->stride,
                          .pad = s->pad,
                          .taps = s->k * s->k };
    g.gather = gather_of(s);
    if (g.gather != GATHER_NONE) {
        g.taps = g.gather == GATHER_ALL ? 1 : s->k;
        g.c *= s->k * s->k / g.taps;
    }
    bool all = g.gather == GATHER_ALL;
    g.column_pairs = g.n <= EDGE && g.ow > 1;
    g.d_width = g.column_pairs ? ceil_div(g.ow, 2) : g.ow;
    g.x_width = g.gather != GATHER_NONE ? g.d_width : g.column_pairs ? g.w + g.stride : g.w;
    g.x_tiles = ceil_div(g.c, EDGE);
    g.d_tiles = ceil_div(g.d, EDGE);
    g.images = g.column_pairs ? EDGE : DEPTH;
    g.image_blocks = ceil_div(g.n, g.images);
    g.three_taps = HAS_THREE_TAPS && g.gather == GATHER_NONE && g.k == 3;
    g.panel_tiles = g.three_taps ? 1 : 2;
    g.c_panels = ceil_div(g.x_tiles, g.panel_tiles);
    g.d_panels = ceil_div(g.d_tiles, 2);
    g.units = (g.three_taps ? g.k : g.taps) * g.c_panels * g.d_panels;
    g.unit = (g.three_taps ? 6 : 4) * RESULT;
    int x_rows = all ? g.oh : g.h;
    g.split_units = conv_weight_count(s) * sizeof(float) > conv_in_count(s) * sizeof(bf16);
    g.rows = g.oh, g.ring = x_rows, g.spans = 1;
    if (!g.split_units) {
        size_t row = (all ? x_row(&g) : x_row(&g) * g.stride) + d_row(&g);
        int max_rows = (int)(CACHE_BYTES / (row * sizeof(bf16))) - (all ? 0 : ceil_div(g.k - g.stride, g.stride));
        g.rows = min_int(max_rows < 1 ? 1 : max_rows, g.oh);
        g.ring = min_int(all ? g.rows : (g.rows - 1) * g.stride + g.k, x_rows);
        g.spans = g.image_blocks % threads == 0 ? 1 : min_int(threads, g.oh);
    }
    return g;
}

/* Interleaves 16 values of a and 16 of b. NULL stands for zeros. */
static inline __m512i interleave_two(const bf16 *a, __mmask16 a_mask, const bf16 *b, __mmask16 b_mask)
{
    __m512i both = _mm512_castsi256_si512(a ? _mm256_maskz_loadu_epi16(a_mask, a) : _mm256_setzero_si256());
    return interleave(_mm512_inserti64x4(both, b ? _mm256_maskz_loadu_epi16(b_mask, b) : _mm256_setzero_si256(), 1));
}

/* The values of x for one of a pair: those of `in` at `at`. NULL outside the image. */
struct pixel_values {
    const bf16 *at;
    struct value_span in;
};

/* `column` is a column of x or, with gathered taps, of the output. */
static inline struct pixel_values pixel_values_of(const struct gradient *g, const struct conv_shape *s, const bf16 *x,
                                                  int n, int y, int column)
{
    bool rows = g->gather == GATHER_ROW;
    int left = rows ? column * s->stride - s->pad : column;
    if (n >= g->n || column < 0 || column >= (rows ? g->ow : g->w))
        return (struct pixel_values){ 0 };
    return (struct pixel_values){ x + (((ptrdiff_t)n * g->h + y) * g->w + left) * s->c,
                                  rows ? row_span(s, left) : (struct value_span){ 0, g->c } };
}

/* Packs pair i of column `at` of a packed row of x. */
static inline void pack_line(const struct gradient *g, const struct conv_shape *s, const bf16 *x, int first, int i,
                             int y, int at, bf16 *to)
{
    bool all = g->gather == GATHER_ALL;
    int n[2] = { first + 2 * i, first + 2 * i + 1 }, column[2] = { at, at };
    if (g->column_pairs) {
        n[0] = n[1] = first + i;
        column[0] = g->gather == GATHER_NONE ? at - g->stride : 2 * at;
        column[1] = g->gather == GATHER_NONE ? at : 2 * at + 1;
    }
    struct pixel_values v[2];
    bf16 taps[2][DEPTH];
    for (int k = 0; k < 2; k++)
        if (all) {
            _mm512_storeu_si512(taps[k], n[k] < g->n && column[k] < g->ow
                                             ? gather_all(s, x + (size_t)n[k] * g->h * g->w * s->c, y, column[k])
                                             : _mm512_setzero_si512());
            v[k] = (struct pixel_values){ taps[k], { 0, DEPTH } };
        } else {
            v[k] = pixel_values_of(g, s, x, n[k], y, column[k]);
        }
    for (int tile = 0; tile < g->x_tiles; tile++)
        _mm512_store_si512(
            to + (tile / g->panel_tiles * (size_t)g->x_width * g->panel_tiles + tile % g->panel_tiles) * TILE,
            interleave_two(v[0].at ? v[0].at + tile * EDGE : NULL, (__mmask16)span_mask(v[0].in, tile * EDGE),
                           v[1].at ? v[1].at + tile * EDGE : NULL, (__mmask16)span_mask(v[1].in, tile * EDGE)));
}

/* The same without gathered taps, for a whole row: reading along a row spares the cache, since images may lie a
 * multiple of its size apart. */
static inline void pack_lines(const struct gradient *g, const bf16 *x, int first, int i, int y, bf16 *to)
{
    int n[2] = { first + (g->column_pairs ? i : 2 * i), first + (g->column_pairs ? i : 2 * i + 1) },
        shift = g->column_pairs ? g->stride : 0;
    const bf16 *row[2];
    for (int k = 0; k < 2; k++)
        row[k] = n[k] < g->n ? x + ((size_t)n[k] * g->h + y) * g->w * g->c : NULL;
    size_t panel = (size_t)g->x_width * g->panel_tiles * TILE, next = g->panel_tiles == 1 ? panel : TILE;
    size_t later = (size_t)(g->column_pairs ? 1 : 2) * g->h * g->w * g->c; /* distance to what the next call reads */
    for (int at = 0; at < g->x_width; at++)
        for (int c = 0; c < g->c; c += 2 * EDGE) {
            const bf16 *a = row[0] && at >= shift ? row[0] + (size_t)(at - shift) * g->c + c : NULL;
            const bf16 *b = row[1] && at < g->w ? row[1] + (size_t)at * g->c + c : NULL;
            if (a && !g->column_pairs)
                _mm_prefetch((const char *)(a + later), _MM_HINT_T0);
            if (b)
                _mm_prefetch((const char *)(b + later), _MM_HINT_T0);
            pack_pair(a, b, g->c - c,
                      to + (size_t)c / (2 * EDGE) * (3 - g->panel_tiles) * panel + (size_t)at * g->panel_tiles * TILE,
                      next);
        }
}

/* Packs rows [top, end) of x, for the images from `first` on. */
static void pack_x(const struct gradient *g, const struct conv_shape *s, const bf16 *x, int first, int top, int end,
                   bf16 *packed)
{
    for (int y = top; y < end; y++)
        for (int i = 0; i < EDGE; i++) {
            bf16 *row = packed + y % g->ring * x_row(g) + i * DEPTH;
            if (g->gather == GATHER_NONE)
                pack_lines(g, x, first, i, y, row);
            for (int at = 0; g->gather != GATHER_NONE && at < g->x_width; at++)
                pack_line(g, s, x, first, i, y, at, row + (size_t)at * g->panel_tiles * TILE);
        }
}

/* A copy of one row of d of each image, with zeros after it. The distance spreads a pixel's values over cache sets. */
static size_t staging_row(const struct gradient *g)
{
    return (size_t)ceil_div((g->ow + 1) * g->d, DEPTH) * DEPTH + DEPTH;
}

static size_t staging_values(const struct gradient *g)
{
    return (g->images + 1) * staging_row(g);
}

static void copy_row(const struct gradient *g, const bf16 *d, int first, int row, bf16 *staging)
{
    size_t pixel_values = (size_t)g->ow * g->d;
    for (int i = 0; i < g->images; i++, staging += staging_row(g)) {
        size_t nonzero_terms = first + i < g->n ? pixel_values : 0;
        const bf16 *from = d + ((size_t)(first + i) * g->oh + row) * pixel_values, *next = from + g->oh * pixel_values;
        for (size_t k = 0; k < nonzero_terms && i + 1 < g->images; k += DEPTH)
            _mm_prefetch((const char *)(next + k), _MM_HINT_T0);
        if (nonzero_terms)
            memcpy(staging, from, pixel_values * sizeof *d);
        memset(staging + nonzero_terms, 0, (staging_row(g) - nonzero_terms) * sizeof *d);
    }
}

/* Packs rows [top, top + count) of d, transposed. */
static void pack_d(const struct gradient *g, const bf16 *d, int first, int top, int count, bf16 *packed, bf16 *staging)
{
    bool in_place = g->split_units && !g->column_pairs &&
                    first + g->images <= g->n; /* rows are short and need no copy */
    size_t image = in_place ? (size_t)g->oh * g->ow * g->d : staging_row(g);
    size_t other = g->column_pairs ? (size_t)g->d : image, step = g->column_pairs ? image : 2 * image;
    for (int row = top; row < top + count; row++) {
        const bf16 *rows = in_place ? d + first * image + (size_t)row * g->ow * g->d : staging;
        if (!in_place)
            copy_row(g, d, first, row, staging);
        for (int at = 0; at < g->d_width; at++)
            for (int tile = 0; tile < g->d_tiles; tile++) {
                bf16 *to = packed + (row - top) * d_row(g) +
                           ((tile / 2 * (size_t)g->d_width + at) * 2 + tile % 2) * TILE;
                const bf16 *from = rows + (size_t)at * (g->column_pairs ? 2 : 1) * g->d + tile * EDGE;
                __mmask16 mask = (__mmask16)mask_of_first(g->d - tile * EDGE);
                __m512i lines[EDGE];
                for (int i = 0; i < EDGE; i++)
                    lines[i] = interleave_two(from + i * step, mask, from + i * step + other, mask);
                transpose(lines);
                for (int i = 0; i < EDGE; i++)
                    _mm512_store_si512(to + i * DEPTH, lines[i]);
            }
    }
}

struct unit {
    int tap, d, c; /* its first tap, and its first tiles of d and c */
};

static struct unit unit_at(const struct gradient *g, int index)
{
    int taps = g->three_taps ? g->k : g->taps, rest = index / taps;
    return (struct unit){ index % taps * (g->three_taps ? g->k : 1), rest / g->c_panels * 2,
                          rest % g->c_panels * (g->three_taps ? 1 : 2) };
}

/* The packed column of x that column j of d reads by column b of the kernel. There is none if it is outside [0,
 * x_width). */
static int column_of(const struct gradient *g, int j, int b)
{
    return g->gather != GATHER_NONE ? j : (g->column_pairs ? 2 * j + 1 : j) * g->stride - g->pad + b;
}

#ifdef __AMX_BF16__
/* Adds one column to registers 0 to 5 (left, 3). The processor renames registers, so two are enough for all
 * operands. */
static inline __attribute__((always_inline)) void add_column(const bf16 *left, const bf16 *const right[3],
                                                             bool two_left)
{
    _tile_loadd(6, left, 64);
    _tile_loadd(7, right[0], 64);
    _tile_dpbf16ps(0, 6, 7);
    _tile_loadd(7, right[1], 64);
    _tile_dpbf16ps(1, 6, 7);
    _tile_loadd(7, right[2], 64);
    _tile_dpbf16ps(2, 6, 7);
    if (two_left) {
        _tile_loadd(6, left + TILE, 64);
        _tile_dpbf16ps(5, 6, 7);
        _tile_loadd(7, right[1], 64);
        _tile_dpbf16ps(4, 6, 7);
        _tile_loadd(7, right[0], 64);
        _tile_dpbf16ps(3, 6, 7);
    }
}

/* Adds one row of d and x. Right tiles overlap those of the column before, and mostly come from the L1 cache. */
static inline __attribute__((always_inline)) void add_row(const struct gradient *g, const bf16 *left, const bf16 *x_row,
                                                          bool two_left)
{
    static const bf16 zeros[TILE] __attribute__((aligned(64)));
    int step = g->column_pairs ? 2 * g->stride : g->stride;
    for (int j = 0, column = column_of(g, 0, 0); j < g->d_width; j++, column += step, left += 2 * TILE) {
        const bf16 *at = x_row + (ptrdiff_t)column * TILE;
        if (column >= 0 && column + 2 < g->x_width) {
            const bf16 *right[3] = { at, at + TILE, at + 2 * TILE };
            add_column(left, right, two_left);
        } else {
            const bf16 *right[3];
            for (int b = 0; b < 3; b++)
                right[b] = column + b >= 0 && column + b < g->x_width ? at + b * TILE : zeros;
            add_column(left, right, two_left);
        }
    }
}

static inline __attribute__((always_inline)) void add_rows(const struct gradient *g, struct unit u, int from, int to,
                                                           const bf16 *x, const bf16 *d, bool add, bool two_left,
                                                           float *sums)
{
    __asm__ volatile("" ::: "memory"); /* gcc does not know that tile loads read memory */
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    if (add) {
        _tile_loadd(0, sums, 64);
        _tile_loadd(1, sums + RESULT, 64);
        _tile_loadd(2, sums + 2 * RESULT, 64);
        _tile_loadd(3, sums + 3 * RESULT, 64);
        _tile_loadd(4, sums + 4 * RESULT, 64);
        _tile_loadd(5, sums + 5 * RESULT, 64);
    }
    for (int i = from; i < to; i++) {
        int y = i * g->stride - g->pad + u.tap / g->k;
        if (y >= 0 && y < g->h)
            add_row(g, d + (i - from) * d_row(g) + (size_t)u.d * g->d_width * TILE,
                    x + y % g->ring * x_row(g) + (size_t)u.c * g->x_width * TILE, two_left);
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + RESULT, 64);
    _tile_stored(2, sums + 2 * RESULT, 64);
    _tile_stored(3, sums + 3 * RESULT, 64);
    _tile_stored(4, sums + 4 * RESULT, 64);
    _tile_stored(5, sums + 5 * RESULT, 64);
}

static void sum_three_taps(const struct gradient *g, struct unit u, int from, int to, const bf16 *x, const bf16 *d,
                           bool add, float *sums)
{
    if (u.d + 1 < g->d_tiles)
        add_rows(g, u, from, to, x, d, add, true, sums);
    else
        add_rows(g, u, from, to, x, d, add, false, sums);
}
#else
static void sum_three_taps(const struct gradient *g, struct unit u, int from, int to, const bf16 *x, const bf16 *d,
                           bool add, float *sums)
{
    (void)g, (void)u, (void)from, (void)to, (void)x, (void)d, (void)add, (void)sums; /* HAS_THREE_TAPS is 0 */
}
#endif

/* Sums a unit over rows [from, to) of one block of images. `d` begins with row `from`. */
static void sum_unit(const struct gradient *g, struct unit u, int from, int to, const bf16 *x, const bf16 *d, bool add,
                     float *sums)
{
    struct operands list[MAX_PRODUCTS];
    int count = 0, across = g->gather == GATHER_NONE ? g->k : 1, a = u.tap / across, b = u.tap % across;
    bool two_d = u.d + 1 < g->d_tiles, two_c = u.c + 1 < g->x_tiles;
    if (g->three_taps) {
        sum_three_taps(g, u, from, to, x, d, add, sums);
        return;
    }
    for (int i = from; i < to; i++) {
        int y = g->gather == GATHER_ALL ? i : i * g->stride - g->pad + a;
        if (g->gather != GATHER_ALL && (y < 0 || y >= g->h))
            continue;
        for (int j = 0; j < g->d_width; j++) {
            int column = column_of(g, j, b);
            if (column < 0 || column >= g->x_width)
                continue;
            const bf16 *left = d + (i - from) * d_row(g) + ((size_t)u.d * g->d_width + 2 * j) * TILE;
            const bf16 *right = x + y % g->ring * x_row(g) + ((size_t)u.c * g->x_width + 2 * column) * TILE;
            list[count++] = (struct operands){ { left, left + TILE }, { right, right + TILE } };
            if (count == MAX_PRODUCTS) {
                multiply_packed(list, count, 1, DEPTH, 0, two_d, two_c, add, sums);
                add = true;
                count = 0;
            }
        }
    }
    if (count > 0 || !add)
        multiply_packed(list, count, 1, DEPTH, 0, two_d, two_c, add, sums);
}

/* dw += alpha times the `parts` sums of a unit, which lie `step` floats apart. */
static void add_unit(const struct gradient *g, struct unit u, float alpha, const float *sums, int parts, size_t step,
                     float *dw)
{
    int across = g->three_taps ? 3 : 2; /* tiles side by side, of taps or of channels */
    for (int tile = 0; tile < 2 * across; tile++) {
        int d = (u.d + tile / across) * EDGE, c = (u.c + (g->three_taps ? 0 : tile % across)) * EDGE;
        int tap = u.tap + (g->three_taps ? tile % across : 0);
        __mmask16 mask = (__mmask16)mask_of_first(g->c - c);
        for (int row = 0; row < EDGE && d + row < g->d && c < g->c; row++) {
            const float *from = sums + tile * RESULT + row * EDGE;
            float *to = dw + ((size_t)(d + row) * g->taps + tap) * g->c + c;
            __m512 sum = _mm512_load_ps(from);
            for (int p = 1; p < parts; p++)
                sum = _mm512_add_ps(sum, _mm512_load_ps(from + p * step));
            _mm512_mask_storeu_ps(to, mask,
                                  _mm512_fmadd_ps(_mm512_set1_ps(alpha), sum, _mm512_maskz_loadu_ps(mask, to)));
        }
    }
}

/* Values of packed x and d. */
static size_t block_values(const struct gradient *g)
{
    return g->ring * x_row(g) + g->rows * d_row(g);
}

static size_t sum_floats(const struct gradient *g)
{
    return g->units * g->unit;
}

/* Converts sums that stand for a factor `from` to a factor `to`. */
static void rescale(float *sums, size_t count, float from, float to)
{
    if (from == to)
        return;
    for (size_t i = 0; i < count; i++)
        sums[i] *= from / to;
}

/* With split_units: packs all terms, then each thread sums its units. Called by every thread of a parallel region. */
static void gradient_by_units(const struct gradient *g, const struct conv_shape *s, const struct gradient_term *terms,
                              int count, float *dw, bf16 *blocks, bf16 *staging)
{
    int all = count * g->image_blocks;
#pragma omp for schedule(static)
    for (int i = 0; i < 2 * all; i++) {
        const struct gradient_term *term = &terms[i / 2 / g->image_blocks];
        int first = i / 2 % g->image_blocks * g->images;
        bf16 *x = blocks + i / 2 * block_values(g);
        if (i % 2 == 0)
            pack_x(g, s, term->x, first, 0, g->ring, x);
        else
            pack_d(g, term->d, first, 0, g->rows, x + g->ring * x_row(g), staging);
    }
#pragma omp for schedule(static)
    for (int unit = 0; unit < g->units; unit++) {
        float sums[6 * RESULT] __attribute__((aligned(64))), alpha = terms->alpha;
        struct unit u = unit_at(g, unit);
        for (int i = 0; i < all; i++) {
            const bf16 *x = blocks + i * block_values(g);
            if (i > 0)
                rescale(sums, g->unit, alpha, terms[i / g->image_blocks].alpha);
            alpha = terms[i / g->image_blocks].alpha;
            sum_unit(g, u, 0, g->oh, x, x + g->ring * x_row(g), i > 0, sums);
        }
        add_unit(g, u, alpha, sums, 1, 0, dw);
    }
}

/* Adds rows [from, to) of one term and block of images to all units. */
static void sum_span(const struct gradient *g, const struct conv_shape *s, const struct gradient_term *term, int first,
                     int from, int to, bf16 *x, bf16 *staging, float *sums)
{
    bf16 *d = x + g->ring * x_row(g);
    int packed_to = 0, x_rows = g->gather == GATHER_ALL ? g->oh : g->h;
    for (int row = from; row < to; row += g->rows) {
        int end = min_int(row + g->rows, to), top = g->gather == GATHER_ALL ? row : row * g->stride - g->pad;
        int bottom = min_int(g->gather == GATHER_ALL ? end : (end - 1) * g->stride - g->pad + g->k, x_rows);
        pack_x(g, s, term->x, first, top > packed_to ? top : packed_to, bottom, x);
        packed_to = bottom > packed_to ? bottom : packed_to;
        pack_d(g, term->d, first, row, end - row, d, staging);
        for (int unit = 0; unit < g->units; unit++)
            sum_unit(g, unit_at(g, unit), row, end, x, d, true, sums + unit * g->unit);
    }
}

/* Without split_units: each thread sums all units over its own rows. `sums` (thread, unit). Called by every thread. */
static void gradient_by_rows(const struct gradient *g, const struct conv_shape *s, const struct gradient_term *terms,
                             int count, float *dw, bf16 *blocks, bf16 *staging, float *sums)
{
    float *mine = sums + thread_number() * sum_floats(g), alpha = terms->alpha, last = terms[count - 1].alpha;
    int spans = g->image_blocks * g->spans;
    memset(mine, 0, sum_floats(g) * sizeof *mine);
#pragma omp for schedule(static) nowait
    for (int i = 0; i < count * spans; i++) {
        int span = i % g->spans;
        rescale(mine, sum_floats(g), alpha, terms[i / spans].alpha);
        alpha = terms[i / spans].alpha;
        sum_span(g, s, &terms[i / spans], i % spans / g->spans * g->images, g->oh * span / g->spans,
                 g->oh * (span + 1) / g->spans, blocks + thread_number() * block_values(g), staging, mine);
    }
    rescale(mine, sum_floats(g), alpha, last);
#pragma omp barrier
#pragma omp for schedule(static)
    for (int unit = 0; unit < g->units; unit++)
        add_unit(g, unit_at(g, unit), last, sums + unit * g->unit, thread_count(), sum_floats(g), dw);
}

enum { MAX_TERMS = 3 }; /* terms that are packed at once */

static size_t block_count(const struct gradient *g, int threads)
{
    return g->split_units ? (size_t)MAX_TERMS * g->image_blocks : (size_t)threads;
}

void ISA_NAME(bf16_gradient)(const struct conv_shape *s, const struct gradient_term *terms, int count, float *dw,
                             int threads, void *scratch)
{
    if (ISA_NAME(bf16_wide_rows_gradient).fits(s, CONV_GRADIENT)) {
        ISA_NAME(bf16_wide_rows_gradient).gradient(s, terms, count, dw, threads, scratch);
        return;
    }
    struct gradient g = gradient_of(s, threads);
    float *sums = scratch;
    bf16 *blocks = (bf16 *)(sums + (g.split_units ? 0 : threads * sum_floats(&g)));
#pragma omp parallel
    {
        bf16 *staging = blocks + block_count(&g, threads) * block_values(&g) + thread_number() * staging_values(&g);
        begin_tiles();
        struct gradient_term nonzero_terms[MAX_TERMS]; /* those whose alpha is not 0 */
        int used = 0;
        for (int t = 0; t < count; t++) {
            if (terms[t].alpha != 0)
                nonzero_terms[used++] = terms[t];
            if (used == 0 || (used < MAX_TERMS && t + 1 < count))
                continue;
            if (g.split_units)
                gradient_by_units(&g, s, nonzero_terms, used, dw, blocks, staging);
            else
                gradient_by_rows(&g, s, nonzero_terms, used, dw, blocks, staging, sums);
            used = 0;
        }
        end_tiles();
    }
}

size_t ISA_NAME(bf16_gradient_bytes)(const struct conv_shape *s, int threads)
{
    if (ISA_NAME(bf16_wide_rows_gradient).fits(s, CONV_GRADIENT))
        return ISA_NAME(bf16_wide_rows_gradient).scratch_bytes(s, CONV_GRADIENT, threads);
    struct gradient g = gradient_of(s, threads);
    return (block_count(&g, threads) * block_values(&g) + threads * staging_values(&g)) * sizeof(bf16) +
           (g.split_units ? 0 : threads * sum_floats(&g) * sizeof(float));
}
