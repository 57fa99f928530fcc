/* winograd.c - F(4x4, 3x3) on NHWC floats. Compiled once per instruction set (base/isa.h).
 * A tile is 6x6 pixels of the input d, which give 4x4 of the output Y; g is the kernel:
 *   output     Y = A^T [ (G g G^T) . (B^T d B) ] A             the elementwise product is summed over channels
 *   gradient   dg = G^T [ sum over tiles (A dY A^T) . (B^T d B) ] G
 * A, B and G are those of the points 0, +-2/3, +-3/2, infinity, whose rounding error is 2.4 times less than that of
 * the usual 0, +-1, +-2, infinity. Each of a tile's 36 positions is a matrix product over many tiles:
 *   V (36, tiles, C) = B^T d B     U (36, C, D) = G g G^T     M (36, tiles, D) = V U
 * Tiles are computed in blocks whose V and M stay in the threads' L2 caches: threads share first a block's tiles,
 * then its 36 products. Sums run over tiles in order, so the bits depend neither on the blocks nor on the threads. */
#include "layers/backend/cpu/isa/algorithms.h"

#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

#include "layers/backend/cpu/isa/epilogue.h"
#include "layers/backend/cpu/isa/vector.h"

#if defined(__AVX512F__)
enum { ROWS = 12, GRADIENT_ROWS = 8 }; /* rows of a product, held in registers */
#elif defined(__AVX__)
enum { ROWS = 6, GRADIENT_ROWS = 4 };
#else
enum { ROWS = 4, GRADIENT_ROWS = 4 };
#endif
enum {
    IN = 6,
    OUT = 4,
    POSITIONS = IN * IN,
    PANEL = 2 * WIDTH,           /* columns of a product, held in registers */
    LINE = 16,                   /* floats of a cache line; one is added to long rows and to planes of V and M, */
    LONG_ROW = 256,              /* so that what is used together does not fall into the same cache sets */
    ROWS_MULTIPLE = 12,          /* a multiple of ROWS in every instruction set */
    BLOCK_BYTES = 384 << 10,     /* size of V and M, per thread */
    NONTEMPORAL_BYTES = 4 << 20, /* a U of this size would not stay in the caches until it is read */
};
_Static_assert(ROWS_MULTIPLE % ROWS == 0 && PANEL % GRADIENT_ROWS == 0, "blocks of tiles and channels divide evenly");

/* The points' absolute values A and B (A B = 1), their squares, and the factors of the kernel's transform. */
#define A    (2.0f / 3)
#define B    (3.0f / 2)
#define A2   (4.0f / 9)
#define B2   (9.0f / 4)
#define NEAR (-81.0f / 130) /* 1 / (2 A2 (A2 - B2)) */
#define FAR  (8.0f / 65)    /* 1 / (2 B2 (B2 - A2)) */

/* Stores past the caches, to an aligned address, what will have left them before it is read. */
static inline void store_nontemporal(float *p, vec v)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX__)
    _mm256_stream_ps(p, (__m256)v);
#else
    store(p, v);
#endif
}

static void nontemporal_fence(void)
{
#ifdef __AVX__
    _mm_sfence();
#endif
}

/* ---- shapes ---- */

/* A convolution as it is computed. An adjoint is a forward convolution with the kernels flipped and C and D
 * exchanged, so c and d are the channels of its input and output. */
struct geometry {
    int n, h, w, c, d, pad;
    int oh, ow;                   /* size of the output */
    int tiles_down, tiles_across; /* tiles of an image */
    int tiles;                    /* tiles of all images */
    int block;                    /* tiles at a time */
    size_t v_row, m_row;          /* floats from tile to tile of V and M */
    size_t v_plane, m_plane;      /* floats from position to position */
};

static struct geometry geometry_of(const struct conv_shape *s, enum conv_use use, int threads)
{
    struct geometry r = { .n = s->n, .h = s->h, .w = s->w, .c = s->c, .d = s->d, .pad = s->pad };
    if (use == CONV_ADJOINT)
        r = (struct geometry){
            .n = s->n, .h = conv_out_h(s), .w = conv_out_w(s), .c = s->d, .d = s->c, .pad = 2 - s->pad
        };
    r.oh = r.h + 2 * r.pad - 2;
    r.ow = r.w + 2 * r.pad - 2;
    r.tiles_down = (r.oh + OUT - 1) / OUT;
    r.tiles_across = (r.ow + OUT - 1) / OUT;
    r.tiles = r.n * r.tiles_down * r.tiles_across;
    r.v_row = (size_t)r.c + (r.c < LONG_ROW ? 0 : LINE);
    r.m_row = (size_t)r.d + (r.d < LONG_ROW ? 0 : LINE);
    size_t bytes = POSITIONS * (r.v_row + r.m_row) * sizeof(float), max_tiles = (size_t)threads * BLOCK_BYTES / bytes;
    size_t rounded = ((size_t)r.tiles + ROWS_MULTIPLE - 1) / ROWS_MULTIPLE * ROWS_MULTIPLE;
    max_tiles = max_tiles < 4 * ROWS_MULTIPLE ? 4 * ROWS_MULTIPLE : max_tiles / ROWS_MULTIPLE * ROWS_MULTIPLE;
    r.block = (int)(max_tiles < rounded ? max_tiles : rounded);
    r.v_plane = r.block * r.v_row + LINE;
    r.m_plane = r.block * r.m_row + LINE;
    return r;
}

/* Few channels gain little, which is not worth moving codes across their threshold by the transforms' rounding.
 * Gradients bear that, and need fewer channels. A single image belongs to a power iteration, which would use the
 * transformed weights only twice. */
static bool fits(const struct conv_shape *s, enum conv_use use)
{
    int min_channels = use == CONV_GRADIENT ? 16 : 64;
    return s->k == 3 && s->stride == 1 && s->pad <= 2 && s->n > 1 && s->c >= min_channels && s->d >= min_channels &&
           s->c % PANEL == 0 && s->d % PANEL == 0;
}

static size_t packed_bytes(const struct conv_shape *s, enum conv_use use)
{
    (void)use;
    return (size_t)POSITIONS * s->c * s->d * sizeof(float);
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    struct geometry r = geometry_of(s, use, threads);
    size_t blocks = POSITIONS * (r.v_plane + r.m_plane) * sizeof(float),
           transposed = conv_weight_count(s) * sizeof(float);
    if (use == CONV_GRADIENT)
        return blocks + packed_bytes(s, use);
    return blocks > transposed ? blocks : transposed;
}

/* ---- transforms of one row or column of a tile, whose elements lie `step` vectors apart ---- */

static inline void input_line(const vec *d, int step, vec *v, int v_step)
{
    vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    vec even = d4 - B2 * d2, odd = A * d3 - A * B2 * d1, far_even = d4 - A2 * d2, far_odd = B * d3 - A2 * B * d1;
    v[0] = d0 - (A2 + B2) * d2 + d4;
    v[v_step] = even + odd;
    v[2 * v_step] = even - odd;
    v[3 * v_step] = far_even + far_odd;
    v[4 * v_step] = far_even - far_odd;
    v[5 * v_step] = d1 - (A2 + B2) * d3 + d5;
}

static inline void output_line(const vec *m, int step, vec *y, int y_step)
{
    vec sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
    vec far_sum = m[3 * step] + m[4 * step], far_difference = m[3 * step] - m[4 * step];
    y[0] = m[0] + sum + far_sum;
    y[y_step] = A * difference + B * far_difference;
    y[2 * y_step] = A2 * sum + B2 * far_sum;
    y[3 * y_step] = A * A2 * difference + B * B2 * far_difference + m[5 * step];
}

/* A: the transpose of output_line. */
static inline void output_line_transposed(const vec *y, int step, vec *m, int m_step)
{
    vec y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
    vec even = y0 + A2 * y2, odd = A * y1 + A * A2 * y3, far_even = y0 + B2 * y2, far_odd = B * y1 + B * B2 * y3;
    m[0] = y0;
    m[m_step] = even + odd;
    m[2 * m_step] = even - odd;
    m[3 * m_step] = far_even + far_odd;
    m[4 * m_step] = far_even - far_odd;
    m[5 * m_step] = y3;
}

static inline void kernel_line(const vec *g, int step, vec *u, int u_step)
{
    vec g0 = g[0], g1 = g[step], g2 = g[2 * step];
    vec even = NEAR * g0 + NEAR * A2 * g2, odd = NEAR * A * g1, far_even = FAR * g0 + FAR * B2 * g2,
        far_odd = FAR * B * g1;
    u[0] = g0;
    u[u_step] = even + odd;
    u[2 * u_step] = even - odd;
    u[3 * u_step] = far_even + far_odd;
    u[4 * u_step] = far_even - far_odd;
    u[5 * u_step] = g2;
}

/* G^T: the transpose of kernel_line. */
static inline void kernel_line_transposed(const vec *u, int step, vec *g, int g_step)
{
    vec sum = u[step] + u[2 * step], difference = u[step] - u[2 * step];
    vec far_sum = u[3 * step] + u[4 * step], far_difference = u[3 * step] - u[4 * step];
    g[0] = u[0] + NEAR * sum + FAR * far_sum;
    g[g_step] = NEAR * A * difference + FAR * B * far_difference;
    g[2 * g_step] = NEAR * A2 * sum + FAR * B2 * far_sum + u[5 * step];
}

/* ---- tiles ---- */

struct tile {
    int image, top, left;
}; /* in outputs */

static struct tile tile_at(const struct geometry *r, int index)
{
    int rest = index % (r->tiles_down * r->tiles_across);
    return (struct tile){ index / (r->tiles_down * r->tiles_across), rest / r->tiles_across * OUT,
                          rest % r->tiles_across * OUT };
}

/* B^T d B of one tile; pixels outside the image are 0. */
static void input_tile(const struct geometry *r, const float *in, int index, float *v)
{
    struct tile t = tile_at(r, index);
    const float *image = in + (size_t)t.image * r->h * r->w * r->c;
    for (int c = 0; c < r->c; c += WIDTH) {
        vec pixels[POSITIONS], half[POSITIONS], result[POSITIONS];
        for (int i = 0; i < IN; i++)
            for (int j = 0; j < IN; j++) {
                int y = t.top - r->pad + i, x = t.left - r->pad + j;
                bool inside = y >= 0 && y < r->h && x >= 0 && x < r->w;
                pixels[i * IN + j] = inside ? load(image + ((size_t)y * r->w + x) * r->c + c) : (vec){ 0 };
            }
        for (int j = 0; j < IN; j++)
            input_line(pixels + j, IN, half + j, IN);
        for (int i = 0; i < IN; i++)
            input_line(half + i * IN, 1, result + i * IN, 1);
        for (int p = 0; p < POSITIONS; p++)
            store(v + p * r->v_plane + c, result[p]);
    }
}

/* A dY A^T of one tile, times alpha; outputs outside the image are 0. */
static void output_gradient_tile(const struct geometry *r, const float *dy, float alpha, int index, float *m)
{
    struct tile t = tile_at(r, index);
    const float *image = dy + (size_t)t.image * r->oh * r->ow * r->d;
    for (int d = 0; d < r->d; d += WIDTH) {
        vec pixels[OUT * OUT], half[IN * OUT], result[POSITIONS];
        for (int i = 0; i < OUT; i++)
            for (int j = 0; j < OUT; j++) {
                int y = t.top + i, x = t.left + j;
                bool inside = y < r->oh && x < r->ow;
                pixels[i * OUT + j] = inside ? alpha * load(image + ((size_t)y * r->ow + x) * r->d + d) : (vec){ 0 };
            }
        for (int j = 0; j < OUT; j++)
            output_line_transposed(pixels + j, OUT, half + j, OUT);
        for (int i = 0; i < IN; i++)
            output_line_transposed(half + i * OUT, 1, result + i * IN, 1);
        for (int p = 0; p < POSITIONS; p++)
            store(m + p * r->m_plane + d, result[p]);
    }
}

static void output_tile(const struct geometry *r, const float *m, const struct epilogue *e, int index, float *out)
{
    struct tile t = tile_at(r, index);
    size_t image = (size_t)t.image * r->oh * r->ow * r->d;
    int rows = r->oh - t.top < OUT ? r->oh - t.top : OUT, columns = r->ow - t.left < OUT ? r->ow - t.left : OUT;
    for (int d = 0; d < r->d; d += WIDTH) {
        vec values[POSITIONS], half[OUT * IN], result[OUT * OUT];
        for (int p = 0; p < POSITIONS; p++)
            values[p] = load(m + p * r->m_plane + d);
        for (int j = 0; j < IN; j++)
            output_line(values + j, IN, half + j, IN);
        for (int i = 0; i < OUT; i++)
            output_line(half + i * IN, 1, result + i * OUT, 1);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) {
                size_t at = image + ((size_t)(t.top + i) * r->ow + t.left + j) * r->d + d;
                store(out + at, epilogue_apply(e, result[i * OUT + j], at));
            }
    }
}

/* ---- products ---- */

/* m (ROWS, PANEL) = v (ROWS, k) u (k, PANEL) */
static inline void product(const float *v, size_t v_row, const float *u, int k, float *m, size_t m_row)
{
    vec sums[ROWS][2] = { 0 };
    for (int i = 0; i < k; i++) {
        vec left = load(u + (size_t)i * PANEL), right = load(u + (size_t)i * PANEL + WIDTH);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++) {
            float factor = v[row * v_row + i];
            sums[row][0] += factor * left;
            sums[row][1] += factor * right;
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; row++) {
        store(m + row * m_row, sums[row][0]);
        store(m + row * m_row + WIDTH, sums[row][1]);
    }
}

/* sums (GRADIENT_ROWS, PANEL) [+]= over tiles of m (tiles, rows)^T v (tiles, PANEL) */
static inline void gradient_product(const float *m, size_t m_row, const float *v, size_t v_row, int tiles, float *sums,
                                    size_t sums_row, bool first)
{
    vec s[GRADIENT_ROWS][2];
#pragma GCC unroll 16
    for (int row = 0; row < GRADIENT_ROWS; row++) {
        s[row][0] = first ? (vec){ 0 } : load(sums + row * sums_row);
        s[row][1] = first ? (vec){ 0 } : load(sums + row * sums_row + WIDTH);
    }
    for (int t = 0; t < tiles; t++) {
        vec left = load(v + t * v_row), right = load(v + t * v_row + WIDTH);
#pragma GCC unroll 16
        for (int row = 0; row < GRADIENT_ROWS; row++) {
            float factor = m[t * m_row + row];
            s[row][0] += factor * left;
            s[row][1] += factor * right;
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < GRADIENT_ROWS; row++) {
        store(sums + row * sums_row, s[row][0]);
        store(sums + row * sums_row + WIDTH, s[row][1]);
    }
}

/* ---- whole convolutions ---- */

/* (D, rest) to (rest, D), both multiples of PANEL. */
static void transpose(const float *from, int d, int rest, float *to)
{
    enum { EDGE = PANEL < 16 ? PANEL : 16 };
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rest; r += EDGE)
        for (int i = 0; i < d; i += EDGE)
            for (int a = r; a < r + EDGE; a++)
                for (int b = i; b < i + EDGE; b++)
                    to[(size_t)a * d + b] = from[(size_t)b * rest + a];
}

/* Writes U as (36, d / PANEL, c, PANEL). The taps are read as (c, 9, d): from transposed weights for a forward pass,
 * from the weights in reversed order of taps for an adjoint one. */
static void pack(const struct conv_shape *s, enum conv_use use, const float *weights, void *packed_, void *scratch)
{
    struct geometry r = geometry_of(s, use, 1);
    float *packed = packed_;
    bool adjoint = use == CONV_ADJOINT;
    size_t channel = adjoint ? 9 * (size_t)s->c : (size_t)s->d; /* floats from channel to channel of the input */
    size_t tap = adjoint ? (size_t)s->c : (size_t)s->c * s->d;
    if (!adjoint) {
        transpose(weights, s->d, 9 * s->c, scratch);
        weights = scratch;
    }
    bool nontemporal = packed_bytes(s, use) > NONTEMPORAL_BYTES;
#pragma omp parallel
    {
#pragma omp for schedule(static) collapse(2) nowait
        for (int d = 0; d < r.d; d += WIDTH)
            for (int c = 0; c < r.c; c++) {
                vec taps[9], half[IN * 3], result[POSITIONS];
                float *to = packed + ((size_t)(d / PANEL) * r.c + c) * PANEL + d % PANEL;
                for (int t = 0; t < 9; t++)
                    taps[t] = load(weights + c * channel + (adjoint ? 8 - t : t) * tap + d);
                for (int j = 0; j < 3; j++)
                    kernel_line(taps + j, 3, half + j, 3);
                for (int i = 0; i < IN; i++)
                    kernel_line(half + i * 3, 1, result + i * IN, 1);
                for (int p = 0; p < POSITIONS; p++)
                    if (nontemporal)
                        store_nontemporal(to + (size_t)p * r.c * r.d, result[p]);
                    else
                        store(to + (size_t)p * r.c * r.d, result[p]);
            }
        nontemporal_fence();
    }
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct geometry r = geometry_of(s, use, threads);
    struct epilogue e = epilogue_fold_nu(epilogue);
    float *v = scratch, *m = v + POSITIONS * r.v_plane;
    int panels = r.d / PANEL;
#pragma omp parallel
    for (int from = 0; from < r.tiles; from += r.block) {
        int count = r.tiles - from < r.block ? r.tiles - from : r.block;
#pragma omp for schedule(static)
        for (int t = 0; t < count; t++)
            input_tile(&r, in, from + t, v + t * r.v_row);
#pragma omp for schedule(static)
        for (int unit = 0; unit < POSITIONS * panels; unit++) { /* rows past the last tile are computed and not used */
            int position = unit / panels, panel = unit % panels;
            const float *u = (const float *)packed + ((size_t)position * panels + panel) * r.c * PANEL;
            for (int t = 0; t < count; t += ROWS)
                product(v + position * r.v_plane + t * r.v_row, r.v_row, u, r.c,
                        m + position * r.m_plane + t * r.m_row + (size_t)panel * PANEL, r.m_row);
        }
#pragma omp for schedule(static) nowait
        for (int t = 0; t < count; t++)
            output_tile(&r, m + t * r.m_row, &e, from + t, out);
    }
}

/* dw += G^T sums G; sums (36, D, C) */
static void add_kernel_gradient(const struct geometry *r, const float *sums, float *dw)
{
#pragma omp for schedule(static)
    for (int d = 0; d < r->d; d++)
        for (int c = 0; c < r->c; c += WIDTH) {
            vec values[POSITIONS], half[3 * IN], result[9];
            for (int p = 0; p < POSITIONS; p++)
                values[p] = load(sums + ((size_t)p * r->d + d) * r->c + c);
            for (int j = 0; j < IN; j++)
                kernel_line_transposed(values + j, IN, half + j, IN);
            for (int i = 0; i < 3; i++)
                kernel_line_transposed(half + i * IN, 1, result + i * 3, 1);
            for (int t = 0; t < 9; t++) {
                float *to = dw + ((size_t)d * 9 + t) * r->c + c;
                store(to, load(to) + result[t]);
            }
        }
}

static void gradient(const struct conv_shape *s, const struct gradient_term *terms, int count, float *dw, int threads,
                     void *scratch)
{
    struct geometry r = geometry_of(s, CONV_GRADIENT, threads);
    float *v = scratch, *m = v + POSITIONS * r.v_plane, *sums = m + POSITIONS * r.m_plane;
    int groups = r.d / GRADIENT_ROWS;
#pragma omp parallel
    {
        for (int term = 0; term < count; term++)
            for (int from = 0; from < r.tiles; from += r.block) {
                int tiles = r.tiles - from < r.block ? r.tiles - from : r.block;
#pragma omp for schedule(static)
                for (int t = 0; t < tiles; t++) {
                    input_tile(&r, terms[term].x, from + t, v + t * r.v_row);
                    output_gradient_tile(&r, terms[term].d, terms[term].alpha, from + t, m + t * r.m_row);
                }
#pragma omp for schedule(static)
                for (int unit = 0; unit < POSITIONS * groups; unit++) {
                    int position = unit / groups, d = unit % groups * GRADIENT_ROWS;
                    for (int c = 0; c < r.c; c += PANEL)
                        gradient_product(m + position * r.m_plane + d, r.m_row, v + position * r.v_plane + c, r.v_row,
                                         tiles, sums + ((size_t)position * r.d + d) * r.c + c, r.c,
                                         term == 0 && from == 0);
                }
            }
        add_kernel_gradient(&r, sums, dw);
    }
}

const struct conv_algorithm ISA_NAME(winograd) = {
    .name = "winograd",
    .fits = fits,
    .packed_bytes = packed_bytes,
    .scratch_bytes = scratch_bytes,
    .pack = pack,
    .run = run,
    .gradient = gradient,
};
