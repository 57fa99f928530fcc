/* kernels.c - loops over pixels, compiled once per instruction set (KERNELS names the table).
 * The plain loops serve every set; with AVX2 the ones that compilers do not vectorise are written out. */
#include "data/kernels.h"

#include <stdbool.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { ROUND = 1 << (RESIZE_PRECISION - 1) };

extern const struct pixel_kernels KERNELS;

static uint8_t clip(int32_t sum)
{
    int32_t value = sum >> RESIZE_PRECISION;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* ---- plain: columns [from, to) of what the whole function does ---- */

static void encode_plain(const uint8_t *restrict pixels, int width, int rows, int from, int to, uint8_t *restrict planes)
{
    size_t plane = (size_t)width * rows;
    for (int y = 0; y < rows; y++) {
        const uint8_t *in = pixels + ((size_t)y * width + from) * 3, *above = in - (size_t)width * 3;
        uint8_t *g = planes + (size_t)y * width, *r = g + plane, *b = r + plane;
        for (int x = from; x < to; x++, in += 3, above += 3) {
            uint8_t green = in[1], red = in[0] - in[1], blue = in[2] - in[1];
            if (y) {
                green -= above[1];
                red -= above[0] - above[1];
                blue -= above[2] - above[1];
            }
            g[x] = green;
            r[x] = red;
            b[x] = blue;
        }
    }
}

/* Output columns [left, right); input column x is output column 0. */
static void decode_plain(const uint8_t *restrict planes, int width, int rows, int x, int columns, int left, int right,
                         int from, int to, uint8_t *restrict pixels)
{
    enum { STRIP = 256 };
    size_t plane = (size_t)width * rows;
    for (; left < right; left += STRIP) {
        uint8_t sum[3][STRIP] = { { 0 } }; /* the row above, undone */
        int n = right - left < STRIP ? right - left : STRIP;
        for (int y = 0; y < to; y++) {
            const uint8_t *in = planes + (size_t)y * width + x + left;
            for (int p = 0; p < 3; p++)
                for (int i = 0; i < n; i++)
                    sum[p][i] += in[p * plane + i];
            if (y < from)
                continue;
            uint8_t *out = pixels + ((size_t)(y - from) * columns + left) * 3;
            for (int i = 0; i < n; i++) {
                out[3 * i] = sum[1][i] + sum[0][i];
                out[3 * i + 1] = sum[0][i];
                out[3 * i + 2] = sum[2][i] + sum[0][i];
            }
        }
    }
}

/* Output pixel i of one row. */
static void column_plain(const uint8_t *row, const struct axis *axis, int i, uint8_t *out)
{
    const int32_t *weight = axis->weight + (size_t)i * axis->taps;
    const uint8_t *in = row + (size_t)axis->first[i] * 3;
    int32_t r = ROUND, g = ROUND, b = ROUND;
    for (int t = 0; t < axis->count[i]; t++, in += 3) {
        r += in[0] * weight[t];
        g += in[1] * weight[t];
        b += in[2] * weight[t];
    }
    out[0] = clip(r);
    out[1] = clip(g);
    out[2] = clip(b);
}

/* Bytes [from, bytes) of one output row. */
static void row_plain(const uint8_t *restrict in, size_t bytes, size_t from, const int32_t *weight, int taps,
                      uint8_t *restrict out)
{
    enum { STRIP = 256 };
    int32_t sums[STRIP];
    for (size_t x = from; x < bytes; x += STRIP) {
        int width = bytes - x < STRIP ? (int)(bytes - x) : STRIP;
        for (int k = 0; k < width; k++)
            sums[k] = ROUND;
        for (int t = 0; t < taps; t++)
            for (int k = 0; k < width; k++)
                sums[k] += in[t * bytes + x + k] * weight[t];
        for (int k = 0; k < width; k++)
            out[x + k] = clip(sums[k]);
    }
}

static void normalise(const struct normaliser *restrict n, const uint8_t *restrict in, int pixels, float *restrict out)
{
    size_t values = (size_t)pixels * 3, done = 0;
    for (; done + 24 <= values; done += 24)
        for (int k = 0; k < 24; k++)
            out[done + k] = (in[done + k] * n->high[k] + n->base[k]) + (in[done + k] * n->low[k] + n->rest[k]);
    for (int k = 0; done < values; done++, k++)
        out[done] = (in[done] * n->high[k] + n->base[k]) + (in[done] * n->low[k] + n->rest[k]);
}

#ifdef __AVX2__
/* ---- AVX2 ---- */

/* Where each of 16 pixels' channel c goes in the three vectors of interleaved bytes: byte k of vector v holds channel
 * (16 v + k) % 3 of pixel (16 v + k) / 3. */
struct shuffles {
    __m128i to[3][3]; /* [vector][channel]: interleaves */
    __m128i of[3][3]; /* [channel][vector]: takes apart */
};

static struct shuffles make_shuffles(void)
{
    struct shuffles s;
    uint8_t to[3][3][16], of[3][3][16];
    memset(to, 0x80, sizeof to);
    memset(of, 0x80, sizeof of);
    for (int at = 0; at < 48; at++) {
        to[at / 16][at % 3][at % 16] = (uint8_t)(at / 3);
        of[at % 3][at / 16][at / 3] = (uint8_t)(at % 16);
    }
    memcpy(s.to, to, sizeof to);
    memcpy(s.of, of, sizeof of);
    return s;
}

static __m128i three(const __m128i shuffle[3], __m128i a, __m128i b, __m128i c)
{
    return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(a, shuffle[0]), _mm_shuffle_epi8(b, shuffle[1])),
                        _mm_shuffle_epi8(c, shuffle[2]));
}

static void encode(const uint8_t *pixels, int width, int rows, uint8_t *planes)
{
    struct shuffles s = make_shuffles();
    size_t plane = (size_t)width * rows;
    int x = 0;
    for (; x + 16 <= width; x += 16) {
        __m128i above[3] = { _mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128() };
        const uint8_t *in = pixels + (size_t)x * 3;
        uint8_t *out = planes + x;
        for (int y = 0; y < rows; y++, in += (size_t)width * 3, out += width) {
            __m128i v[3];
            for (int k = 0; k < 3; k++)
                v[k] = _mm_loadu_si128((const __m128i *)(in + 16 * k));
            __m128i green = three(s.of[1], v[0], v[1], v[2]);
            __m128i now[3] = { green, _mm_sub_epi8(three(s.of[0], v[0], v[1], v[2]), green),
                               _mm_sub_epi8(three(s.of[2], v[0], v[1], v[2]), green) };
            for (int p = 0; p < 3; p++) {
                _mm_storeu_si128((__m128i *)(out + p * plane), _mm_sub_epi8(now[p], above[p]));
                above[p] = now[p];
            }
        }
    }
    encode_plain(pixels, width, rows, x, width, planes);
}

static void interleave16(const struct shuffles *s, __m128i r, __m128i g, __m128i b, uint8_t *out)
{
    for (int v = 0; v < 3; v++)
        _mm_storeu_si128((__m128i *)(out + 16 * v), three(s->to[v], r, g, b));
}

/* Output columns [left, left + 32), summed down the rows in registers. */
static void decode32(const struct shuffles *s, const uint8_t *planes, int width, int rows, int from, int to,
                     uint8_t *out, size_t stride)
{
    size_t plane = (size_t)width * rows;
    __m256i green = _mm256_setzero_si256(), red = green, blue = green;
    for (int y = 0; y < to; y++, planes += width) {
        green = _mm256_add_epi8(green, _mm256_loadu_si256((const __m256i *)planes));
        red = _mm256_add_epi8(red, _mm256_loadu_si256((const __m256i *)(planes + plane)));
        blue = _mm256_add_epi8(blue, _mm256_loadu_si256((const __m256i *)(planes + 2 * plane)));
        if (y < from)
            continue;
        __m256i r = _mm256_add_epi8(red, green), b = _mm256_add_epi8(blue, green);
        interleave16(s, _mm256_castsi256_si128(r), _mm256_castsi256_si128(green), _mm256_castsi256_si128(b), out);
        interleave16(s, _mm256_extracti128_si256(r, 1), _mm256_extracti128_si256(green, 1),
                     _mm256_extracti128_si256(b, 1), out + 48);
        out += stride;
    }
}

static void decode(const uint8_t *planes, int width, int rows, int x, int columns, int from, int to, uint8_t *pixels)
{
    struct shuffles s = make_shuffles();
    if (columns < 32) {
        decode_plain(planes, width, rows, x, columns, 0, columns, from, to, pixels);
        return;
    }
    for (int left = 0; left < columns; left += 32) {
        if (left > columns - 32)
            left = columns - 32; /* the last ones overlap */
        decode32(&s, planes + x + left, width, rows, from, to, pixels + (size_t)left * 3, (size_t)columns * 3);
    }
}

/* Two rows at a time, one in each half of a vector; per step two input pixels of each. A weight of 22 bits is taken
 * as two of 11, which 16-bit multiplications take exactly. */
static void columns_pair(const uint8_t *const rows[2], const struct axis *axis, int i, uint8_t *const out[2], bool last)
{
    const __m256i order = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, /**/
                                           0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    const int32_t *weight = axis->weight + (size_t)i * axis->taps;
    size_t at = (size_t)axis->first[i] * 3;
    __m256i high = _mm256_setzero_si256(), low = _mm256_set1_epi32(ROUND);
    for (int t = 0; t < axis->count[i]; t += 2, at += 6) {
        __m256i pixels = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(rows[0] + at))),
            _mm_loadl_epi64((const __m128i *)(rows[1] + at)), 1);
        pixels = _mm256_shuffle_epi8(pixels, order); /* words r0 r1 g0 g1 b0 b1 0 0 of each row */
        __m256i w0 = _mm256_set1_epi32(weight[t]), w1 = _mm256_set1_epi32(weight[t + 1]);
        __m256i top = _mm256_or_si256(_mm256_srli_epi32(w0, 11), _mm256_slli_epi32(_mm256_srli_epi32(w1, 11), 16));
        __m256i mask = _mm256_set1_epi32(2047);
        __m256i rest = _mm256_or_si256(_mm256_and_si256(w0, mask), _mm256_slli_epi32(_mm256_and_si256(w1, mask), 16));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, top));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, rest));
    }
    __m256i sum = _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, 11), low), RESIZE_PRECISION);
    sum = _mm256_packs_epi32(sum, sum);
    sum = _mm256_packus_epi16(sum, sum);
    uint32_t values[2] = { (uint32_t)_mm256_extract_epi32(sum, 0), (uint32_t)_mm256_extract_epi32(sum, 4) };
    for (int k = 0; k < 2; k++)
        memcpy(out[k] + 3 * (size_t)i, &values[k], last ? 3 : 4); /* the fourth byte is overwritten by the next pixel */
}

static void columns(struct view view, const struct axis *axis, uint8_t *out)
{
    size_t stride = (size_t)axis->n * 3;
    for (int y = 0; y < view.height; y += 2) {
        int next = y + 1 < view.height ? 1 : 0; /* the last of an odd number is done twice */
        const uint8_t *rows[2] = { view.pixels + y * view.stride, view.pixels + (y + next) * view.stride };
        uint8_t *to[2] = { out + y * stride, out + (y + next) * stride };
        for (int i = 0; i < axis->n; i++) {
            int read = (axis->first[i] + (axis->count[i] + 1) / 2 * 2) * 3 + 2; /* columns_pair loads 8 bytes of 6 */
            if (read <= view.width * 3) {
                columns_pair(rows, axis, i, to, i == axis->n - 1);
            } else {
                column_plain(rows[0], axis, i, to[0] + 3 * (size_t)i);
                column_plain(rows[1], axis, i, to[1] + 3 * (size_t)i);
            }
        }
    }
}

static void row16(const uint8_t *in, size_t bytes, const int32_t *weight, int taps, uint8_t *out)
{
    __m256i sum[2] = { _mm256_set1_epi32(ROUND), _mm256_set1_epi32(ROUND) };
    for (int t = 0; t < taps; t++, in += bytes) {
        __m256i w = _mm256_set1_epi32(weight[t]);
        for (int k = 0; k < 2; k++) {
            __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(in + 8 * k)));
            sum[k] = _mm256_add_epi32(sum[k], _mm256_mullo_epi32(v, w));
        }
    }
    __m256i words = _mm256_packs_epi32(_mm256_srai_epi32(sum[0], RESIZE_PRECISION),
                                       _mm256_srai_epi32(sum[1], RESIZE_PRECISION));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128((__m128i *)out, _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

static void row(const uint8_t *in, size_t bytes, const int32_t *weight, int taps, uint8_t *out)
{
    size_t x = 0;
    for (; x + 16 <= bytes; x += 16)
        row16(in + x, bytes, weight, taps, out + x);
    row_plain(in, bytes, x, weight, taps, out);
}

#else
static void encode(const uint8_t *pixels, int width, int rows, uint8_t *planes)
{
    encode_plain(pixels, width, rows, 0, width, planes);
}

static void decode(const uint8_t *planes, int width, int rows, int x, int columns, int from, int to, uint8_t *pixels)
{
    decode_plain(planes, width, rows, x, columns, 0, columns, from, to, pixels);
}

static void columns(struct view view, const struct axis *axis, uint8_t *out)
{
    for (int y = 0; y < view.height; y++)
        for (int i = 0; i < axis->n; i++, out += 3)
            column_plain(view.pixels + y * view.stride, axis, i, out);
}

static void row(const uint8_t *in, size_t bytes, const int32_t *weight, int taps, uint8_t *out)
{
    row_plain(in, bytes, 0, weight, taps, out);
}
#endif

const struct pixel_kernels KERNELS = { KERNELS_NAME, encode, decode, columns, row, normalise };
