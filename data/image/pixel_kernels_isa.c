/* pixel_kernels_isa.c - loops over pixels, compiled once per instruction set (base/isa.h).
 * The plain loops serve every set. For AVX2 the loops that compilers do not vectorise are written with intrinsics. */
#include "data/image/pixel_kernels.h"

#include <stdbool.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "base/isa.h"

enum { ROUND = 1 << (RESIZE_PRECISION - 1) };

extern const struct pixel_kernels ISA_NAME(pixel_kernels);

static uint8_t clip(int32_t sum)
{
    int32_t value = sum >> RESIZE_PRECISION;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* ---- plain C ---- */

static void encode_plain(const uint8_t *restrict pixels, int width, int rows, int from, int to,
                         uint8_t *restrict planes)
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

/* Decodes output columns [left, right). Input column x is output column 0. */
static void decode_plain(const uint8_t *restrict planes, int width, int rows, int x, int columns, int left, int right,
                         int from, int to, uint8_t *restrict pixels)
{
    enum { STRIP = 256 };
    size_t plane = (size_t)width * rows;
    for (; left < right; left += STRIP) {
        uint8_t sum[3][STRIP] = { { 0 } }; /* the decoded row above */
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

/* Computes output pixel i of one row. */
static void column_plain(const uint8_t *row, const struct resize_axis *axis, int i, uint8_t *out)
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

/* Computes one output row. */
static void row_plain(const uint8_t *restrict in, size_t bytes, const int32_t *weight, int taps, uint8_t *restrict out)
{
    enum { STRIP = 256 };
    int32_t sums[STRIP];
    for (size_t x = 0; x < bytes; x += STRIP) {
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

/* Normalises the values from `done` on, a multiple of 24. */
static void normalise_plain(const struct normaliser *restrict n, const uint8_t *restrict in, int pixels, size_t done,
                            float *restrict out)
{
    for (size_t values = (size_t)pixels * 3; done < values; done++) {
        int k = (int)(done % 24);
        out[done] = (in[done] * n->high[k] + n->base[k]) + (in[done] * n->low[k] + n->rest[k]);
    }
}

#ifdef __AVX2__
/* ---- AVX2 ---- */

/* Shuffles between planes and interleaved bytes. Of 16 interleaved pixels in three vectors, byte k of vector v is
 * channel (16 v + k) % 3 of pixel (16 v + k) / 3. */
struct shuffles {
    __m128i to[3][3]; /* [vector][channel]: planes to interleaved bytes */
    __m128i of[3][3]; /* [channel][vector]: interleaved bytes to planes */
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

/* Decodes 32 columns; the sums down the rows stay in registers. */
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

/* Loads 8 bytes of each of two rows, one row in each half. */
static __m256i load_pair(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)a)),
                                   _mm_loadl_epi64((const __m128i *)b), 1);
}

static __m256i load_long_pair(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a)),
                                   _mm_loadu_si128((const __m128i *)b), 1);
}

struct sums {
    __m256i high[2], low[2];
};

/* Adds two input pixels of each of four rows. `order` shuffles them to words r0 r1 g0 g1 b0 b1 0 0. A weight of 22 bits
 * is split into two of 11 bits, for which 16-bit multiplications are exact. */
static inline void add_pixels(struct sums *s, const __m256i pixels[2], __m256i order, const int32_t split[2])
{
    __m256i top = _mm256_set1_epi32(split[0]), rest = _mm256_set1_epi32(split[1]);
    for (int k = 0; k < 2; k++) {
        __m256i words = _mm256_shuffle_epi8(pixels[k], order);
        s->high[k] = _mm256_add_epi32(s->high[k], _mm256_madd_epi16(words, top));
        s->low[k] = _mm256_add_epi32(s->low[k], _mm256_madd_epi16(words, rest));
    }
}

/* Stores with a constant size; with a variable one the compiler would make loops over bytes. */
static inline void put_pixel(uint8_t *out, int value, int size)
{
    if (size == 3)
        memcpy(out, &value, 3);
    else
        memcpy(out, &value, 4);
}

/* Writes one pixel of each of four rows, `stride` bytes apart. All but the last of a row are written with an extra
 * byte, which the next pixel overwrites. */
static inline void finish_pixels(const struct sums *s, uint8_t *out, size_t stride, bool last)
{
    __m256i sum[2];
    for (int k = 0; k < 2; k++)
        sum[k] = _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(s->high[k], 11), s->low[k]), RESIZE_PRECISION);
    __m256i bytes = _mm256_packs_epi32(sum[0], sum[1]);
    bytes = _mm256_packus_epi16(bytes, bytes); /* rows 0 and 2 are in one half, 1 and 3 in the other */
    __m128i even = _mm256_castsi256_si128(bytes), odd = _mm256_extracti128_si256(bytes, 1);
    int size = last ? 3 : 4;
    put_pixel(out, _mm_cvtsi128_si32(even), size);
    put_pixel(out + stride, _mm_cvtsi128_si32(odd), size);
    put_pixel(out + 2 * stride, _mm_extract_epi32(even, 1), size);
    put_pixel(out + 3 * stride, _mm_extract_epi32(odd, 1), size);
}

/* Resizes four rows of `width` input pixels without reading beyond the end of any. */
static void columns_quad(const uint8_t *rows, size_t stride, const struct resize_axis *axis, int width, uint8_t *out)
{
    const __m256i first = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i second = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const __m256i zero = _mm256_setzero_si256(), round = _mm256_set1_epi32(ROUND);
    const int32_t *split = axis->split;
    size_t end = (size_t)width * 3, out_stride = (size_t)axis->n * 3;
    for (int i = 0; i < axis->n; i++, split += axis->taps, out += 3) {
        size_t at = (size_t)axis->first[i] * 3;
        const uint8_t *in = rows + at;
        int taps = axis->count[i];
        struct sums s = { { zero, zero }, { round, round } };
        if (taps <= 4 && axis->taps >= 4 && at + 16 <= end) {
            __m256i pixels[2] = { load_long_pair(in, in + stride), load_long_pair(in + 2 * stride, in + 3 * stride) };
            add_pixels(&s, pixels, first, split);
            add_pixels(&s, pixels, second, split + 2);
        } else if (at + (size_t)(taps + 1) / 2 * 6 + 2 <= end) {
            for (int t = 0; t < taps; t += 2, in += 6) {
                __m256i pixels[2] = { load_pair(in, in + stride), load_pair(in + 2 * stride, in + 3 * stride) };
                add_pixels(&s, pixels, first, split + t);
            }
        } else {
            for (int k = 0; k < 4; k++)
                column_plain(rows + k * stride, axis, i, out + k * out_stride);
            continue;
        }
        finish_pixels(&s, out, out_stride, i == axis->n - 1);
    }
}

static void columns(struct view view, const struct resize_axis *axis, uint8_t *out)
{
    size_t stride = (size_t)axis->n * 3;
    for (int y = 0; y < view.height && view.height < 4; y++)
        for (int i = 0; i < axis->n; i++)
            column_plain(view.pixels + y * view.stride, axis, i, out + y * stride + 3 * (size_t)i);
    for (int y = 0; y < view.height && view.height >= 4; y += 4) {
        int from = y + 4 <= view.height ? y : view.height - 4; /* the last ones overlap */
        columns_quad(view.pixels + from * view.stride, view.stride, axis, view.width, out + from * stride);
    }
}

/* Computes 32 bytes of an output row, two taps at a time, with weights split as in add_pixels. If the taps are odd in
 * number, the last one is paired with a weight of 0. Unpacking and packing both work within halves of 16 bytes, which
 * preserves the order. */
static inline void row32(const uint8_t *in, const uint8_t *last, size_t bytes, const int32_t *split, int pairs,
                         uint8_t *out)
{
    const __m256i zero = _mm256_setzero_si256(), round = _mm256_set1_epi32(ROUND);
    __m256i high[4] = { zero, zero, zero, zero }, low[4] = { round, round, round, round };
    for (int t = 0; t < pairs; t++, in += 2 * bytes, split += 2) {
        __m256i top = _mm256_set1_epi32(split[0]), rest = _mm256_set1_epi32(split[1]);
        __m256i a = _mm256_loadu_si256((const __m256i *)in);
        __m256i b = _mm256_loadu_si256((const __m256i *)(t + 1 < pairs ? in + bytes : last));
        __m256i left = _mm256_unpacklo_epi8(a, b), right = _mm256_unpackhi_epi8(a, b);
        __m256i words[4] = { _mm256_unpacklo_epi8(left, zero), _mm256_unpackhi_epi8(left, zero),
                             _mm256_unpacklo_epi8(right, zero), _mm256_unpackhi_epi8(right, zero) };
        for (int k = 0; k < 4; k++) {
            high[k] = _mm256_add_epi32(high[k], _mm256_madd_epi16(words[k], top));
            low[k] = _mm256_add_epi32(low[k], _mm256_madd_epi16(words[k], rest));
        }
    }
    for (int k = 0; k < 4; k++)
        low[k] = _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high[k], 11), low[k]), RESIZE_PRECISION);
    _mm256_storeu_si256((__m256i *)out,
                        _mm256_packus_epi16(_mm256_packs_epi32(low[0], low[1]), _mm256_packs_epi32(low[2], low[3])));
}

static inline void row_pairs(const uint8_t *in, size_t bytes, const int32_t *split, int taps, int pairs, uint8_t *out)
{
    const uint8_t *last = in + (size_t)(taps - 1) * bytes;
    for (size_t x = 0; x < bytes; x += 32) {
        if (x > bytes - 32)
            x = bytes - 32; /* the last ones overlap */
        row32(in + x, last + x, bytes, split, pairs, out + x);
    }
}

static void row(const uint8_t *in, size_t bytes, const struct resize_axis *axis, int i, uint8_t *out)
{
    const int32_t *split = axis->split + (size_t)i * axis->taps;
    int taps = axis->count[i];
    in += (size_t)axis->first[i] * bytes;
    if (bytes < 32) {
        row_plain(in, bytes, axis->weight + (size_t)i * axis->taps, taps, out);
        return;
    }
    switch ((taps + 1) / 2) { /* the usual counts are compiled without a loop */
    case 1: row_pairs(in, bytes, split, taps, 1, out); break;
    case 2: row_pairs(in, bytes, split, taps, 2, out); break;
    default: row_pairs(in, bytes, split, taps, (taps + 1) / 2, out);
    }
}

static void normalise(const struct normaliser *n, const uint8_t *in, int pixels, float *out)
{
    size_t values = (size_t)pixels * 3, done = 0;
    for (; done + 24 <= values; done += 24)
        for (int k = 0; k < 24; k += 8) {
            __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(in + done + k))));
            __m256 exact = _mm256_fmadd_ps(v, _mm256_loadu_ps(n->high + k), _mm256_loadu_ps(n->base + k));
            __m256 rest = _mm256_fmadd_ps(v, _mm256_loadu_ps(n->low + k), _mm256_loadu_ps(n->rest + k));
            _mm256_storeu_ps(out + done + k, _mm256_add_ps(exact, rest));
        }
    normalise_plain(n, in, pixels, done, out);
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

static void columns(struct view view, const struct resize_axis *axis, uint8_t *out)
{
    for (int y = 0; y < view.height; y++)
        for (int i = 0; i < axis->n; i++, out += 3)
            column_plain(view.pixels + y * view.stride, axis, i, out);
}

static void row(const uint8_t *in, size_t bytes, const struct resize_axis *axis, int i, uint8_t *out)
{
    row_plain(in + (size_t)axis->first[i] * bytes, bytes, axis->weight + (size_t)i * axis->taps, axis->count[i], out);
}

static void normalise(const struct normaliser *n, const uint8_t *in, int pixels, float *out)
{
    normalise_plain(n, in, pixels, 0, out);
}
#endif

const struct pixel_kernels ISA_NAME(pixel_kernels) = { ISA_TEXT, encode, decode, columns, row, normalise };
