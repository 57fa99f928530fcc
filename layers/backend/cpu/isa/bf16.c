/* bf16.c - bf16 convolutions of any shape, by products of 16x16 tiles.
 * The rows of a left tile are one pixel of 16 images, so a tap is skipped where it falls outside the image, nothing is
 * padded, and every stride and size is equally fast:
 *   M (16 images, 32 outputs) = sum over taps and channels of  X (16 images, 32 channels) W (32 channels, 32)
 * Some shapes are passed on: images of few channels to bf16_wide_rows.c and bf16_few_channels.c, wide ones to
 * bf16_one_image.c. Weight gradients are in bf16_gradient.c.
 * Compiled once for AVX-512's bf16 instructions and once for AMX (base/isa.h). */
#include "layers/backend/cpu/isa/algorithms.h"

#include "layers/backend/cpu/isa/bf16_tiles.h"

enum {
    PACKED_BYTES = 320 << 10,        /* a thread's packed input of this size stays in its L2 cache beside the weights */
    LARGE_WEIGHTS_BYTES = 512 << 10, /* for larger weights, CACHE_BYTES are packed, so that they are read less often */
};

/* ---- shapes ---- */

/* A convolution as it is computed. For an adjoint, the input is the code and the output the image. */
struct geometry {
    int n, h, w, c, oh, ow, d;
    int k, stride, pad;
    bool adjoint;
    enum gather gather;         /* GATHER_NONE for an adjoint */
    int width, channels;        /* pixels of a packed row, and channels of such a pixel */
    int steps, panels;          /* groups of 32 channels of the input and of the output */
    int taps;                   /* that are not gathered */
    int rows;                   /* of the output at a time */
    int ring;                   /* packed rows of the input that those read; row y is at y % ring */
    int groups, groups_at_once; /* groups of 16 images */
    int spans;                  /* parts of an image for different threads */
};

static size_t packed_row(const struct geometry *r)
{
    return (size_t)r->width * r->steps * TILE;
}

static struct geometry geometry_of(const struct conv_shape *s, enum conv_use use, int threads)
{
    struct geometry r = { .n = s->n,
                          .h = s->h,
                          .w = s->w,
                          .c = s->c,
                          .oh = conv_out_h(s),
                          .ow = conv_out_w(s),
                          .d = s->d,
                          .k = s->k,
                          .stride = s->stride,
                          .pad = s->pad,
                          .adjoint = use == CONV_ADJOINT };
    if (r.adjoint) {
        r.h = conv_out_h(s), r.w = conv_out_w(s), r.c = s->d;
        r.oh = s->h, r.ow = s->w, r.d = s->c;
    }
    r.gather = r.adjoint ? GATHER_NONE : gather_of(s);
    r.taps = r.gather == GATHER_ALL ? 1 : r.gather == GATHER_ROW ? s->k : s->k * s->k;
    r.channels = r.c * s->k * s->k / r.taps;
    r.steps = ceil_div(r.channels, DEPTH);
    r.panels = ceil_div(r.d, 2 * EDGE);
    r.width = r.gather == GATHER_NONE ? r.w : r.ow;
    r.groups = ceil_div(r.n, EDGE);
    size_t weights = (size_t)r.panels * r.taps * r.steps * 2 * TILE * sizeof(bf16);
    int max_rows = (int)((weights > LARGE_WEIGHTS_BYTES ? CACHE_BYTES : PACKED_BYTES) /
                         (packed_row(&r) * sizeof(bf16)));
    bool all = r.gather == GATHER_ALL;
    int input_rows = all ? r.oh : r.h;
    r.rows = r.oh, r.ring = input_rows, r.groups_at_once = 1;
    if (max_rows >= input_rows) {
        r.groups_at_once = min_int(ceil_div(r.groups, threads), max_rows / input_rows);
    } else {
        r.rows = all ? max_rows : r.adjoint ? (max_rows - 1) * r.stride - r.k + 1 : (max_rows - r.k) / r.stride + 1;
        r.rows = r.rows < 1 ? 1 : min_int(r.rows, r.oh);
        r.ring = all ? r.rows : r.adjoint ? (r.rows + r.k - 2) / r.stride + 1 : (r.rows - 1) * r.stride + r.k;
        r.ring = min_int(r.ring, input_rows);
    }
    r.spans = ceil_div(r.groups, r.groups_at_once) % threads == 0 ? 1 : min_int(threads, r.oh);
    return r;
}

/* The first row of the input that output row i reads, and one past the last, inside the image. */
static int first_row(const struct geometry *r, int i)
{
    int y = r->gather == GATHER_ALL ? i : r->adjoint ? i + r->pad - r->k + 1 : i * r->stride - r->pad;
    return y < 0 ? 0 : r->adjoint ? ceil_div(y, r->stride) : y;
}

static int end_row(const struct geometry *r, int i)
{
    int y = r->gather == GATHER_ALL ? i : r->adjoint ? (i + r->pad) / r->stride : i * r->stride - r->pad + r->k - 1;
    return min_int(y + 1, r->gather == GATHER_ALL ? r->oh : r->h);
}

/* The row (column) of the input that row (column) i of the output reads by tap a, or -1 if there is none. */
static int source_index(const struct geometry *r, int i, int a, int size)
{
    int at = r->adjoint ? i + r->pad - a : i * r->stride - r->pad + a;
    if (r->adjoint) {
        if (at < 0 || at % r->stride != 0)
            return -1;
        at /= r->stride;
    }
    return at < size ? at : -1;
}

/* ---- the input, packed ---- */

/* Copies a pixel's channels to its row of the tiles. */
static void pack_pixel(const bf16 *from, int c, bf16 *to)
{
    for (; c >= DEPTH; c -= DEPTH, from += DEPTH, to += TILE)
        _mm512_store_si512(to, _mm512_loadu_si512(from));
    if (c > 0)
        _mm512_store_si512(to, _mm512_maskz_loadu_epi16(mask_of_first(c), from));
}

/* Gathers what a row of the kernel reads for output column j. */
static void gather_row(const struct geometry *r, const struct conv_shape *s, const bf16 *row, int j, bf16 *to)
{
    int left = j * s->stride - s->pad;
    struct value_span in = row_span(s, left);
    for (int step = 0; step < r->steps; step++)
        _mm512_store_si512(to + (size_t)step * TILE,
                           _mm512_maskz_loadu_epi16(span_mask(in, step * DEPTH), row + left * s->c + step * DEPTH));
}

/* Packs rows [top, end) of images [first, first + 16). A packed row is (column, step, 16, 32). */
static void pack_rows(const struct geometry *r, const struct conv_shape *s, const bf16 *in, int first, int top, int end,
                      bf16 *packed)
{
    int images = min_int(r->n - first, EDGE);
    size_t image = (size_t)r->h * r->w * r->c, row = (size_t)r->w * r->c;
    in += first * image;
    for (int y = top; y < end; y++)
        for (int x = 0; x < r->width; x++) {
            bf16 *to = packed + y % r->ring * packed_row(r) + (size_t)x * r->steps * TILE;
            for (int i = 0; i < images; i++, to += DEPTH)
                if (r->gather == GATHER_ALL)
                    _mm512_store_si512(to, gather_all(s, in + i * image, y, x));
                else if (r->gather == GATHER_ROW)
                    gather_row(r, s, in + i * image + y * row, x, to);
                else
                    pack_pixel(in + i * image + y * row + (size_t)x * r->c, r->c, to);
            for (int i = images; i < EDGE; i++, to += DEPTH)
                for (int step = 0; step < r->steps; step++)
                    _mm512_store_si512(to + (size_t)step * TILE, _mm512_setzero_si512());
        }
}

/* ---- the weights, packed: (panel, tap, step, 2, 16 pairs, 16 outputs, 2) ---- */

static size_t packed_weights(const struct geometry *r)
{
    return (size_t)r->panels * r->taps * r->steps * 2 * TILE;
}

/* Kernels that have a packing of their own, or NULL. */
static const struct conv_algorithm *specialised_packing(const struct conv_shape *s, enum conv_use use)
{
    return use != CONV_ADJOINT                        ? NULL
           : ISA_NAME(bf16_wide_rows).fits(s, use)    ? &ISA_NAME(bf16_wide_rows)
           : ISA_NAME(bf16_few_channels).fits(s, use) ? &ISA_NAME(bf16_few_channels)
                                                      : NULL;
}

static size_t packed_bytes(const struct conv_shape *s, enum conv_use use)
{
    if (specialised_packing(s, use))
        return specialised_packing(s, use)->packed_bytes(s, use);
    struct geometry r = geometry_of(s, use, 1);
    return packed_weights(&r) * sizeof(bf16);
}

/* The first `count` of 32 floats, as bf16. */
static __m512i floats_to_bf16(const float *from, int count)
{
    __mmask32 mask = mask_of_first(count);
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, from);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), from + EDGE);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Packs a right tile of weights for a forward pass. `row` is the distance of atoms in floats. */
static void pack_forward(const float *from, size_t row, int outputs, int channels, bf16 *to)
{
    __m512i lines[EDGE];
    for (int i = 0; i < EDGE; i++)
        lines[i] = i < outputs ? floats_to_bf16(from + i * row, channels) : _mm512_setzero_si512();
    transpose(lines);
    for (int i = 0; i < EDGE; i++)
        _mm512_store_si512(to + i * DEPTH, lines[i]);
}

static void pack(const struct conv_shape *s, enum conv_use use, const float *weights, void *packed, void *scratch)
{
    if (specialised_packing(s, use)) {
        specialised_packing(s, use)->pack(s, use, weights, packed, scratch);
        return;
    }
    struct geometry r = geometry_of(s, use, 1);
    size_t row = (size_t)s->k * s->k * s->c; /* floats of an atom */
    int tiles = r.panels * r.taps * r.steps * 2;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < tiles; t++) {
        int step = t / 2 % r.steps, tap = t / 2 / r.steps % r.taps, panel = t / 2 / r.steps / r.taps;
        int d = panel * 2 * EDGE + t % 2 * EDGE, c = step * DEPTH;
        bf16 *to = (bf16 *)packed + (size_t)t * TILE;
        if (r.adjoint)
            pack_adjoint_tile(weights + c * row + (size_t)tap * s->c + d, row, r.d - d, r.channels - c, to);
        else
            pack_forward(weights + d * row + (size_t)tap * r.channels + c, row, r.d - d, r.channels - c, to);
    }
}

/* ---- whole convolutions ---- */

static size_t packed_values(const struct geometry *r) /* a thread's packed input */
{
    return (size_t)r->groups_at_once * r->ring * packed_row(r);
}

/* Lists the products for one panel of two pixels of output row i, in columns j and `other`, which may be the same. */
static int list_taps(const struct geometry *r, int i, int j, int other, const bf16 *packed, const bf16 *weights,
                     const bf16 *zeros, struct operands *list)
{
    int count = 0;
    size_t tap_values = (size_t)r->steps * 2 * TILE, pixel = (size_t)r->steps * TILE;
    if (r->gather == GATHER_ALL) {
        const bf16 *row = packed + i % r->ring * packed_row(r);
        list[0] = (struct operands){ { row + j * pixel, row + other * pixel }, { weights, weights + TILE } };
        return 1;
    }
    for (int a = 0; a < r->k; a++) {
        int y = source_index(r, i, a, r->h);
        if (y < 0)
            continue;
        const bf16 *row = packed + y % r->ring * packed_row(r);
        if (r->gather == GATHER_ROW) {
            const bf16 *w = weights + a * tap_values;
            list[count++] = (struct operands){ { row + j * pixel, row + other * pixel }, { w, w + TILE } };
            continue;
        }
        for (int b = 0; b < r->k; b++) {
            int x0 = source_index(r, j, b, r->w), x1 = other == j ? x0 : source_index(r, other, b, r->w);
            if (x0 < 0 && x1 < 0)
                continue;
            const bf16 *w = weights + (a * r->k + b) * tap_values;
            list[count++] = (struct operands){ { x0 < 0 ? zeros : row + x0 * pixel, x1 < 0 ? zeros : row + x1 * pixel },
                                               { w, w + TILE } };
        }
    }
    return count;
}

/* What a thread works with. */
struct worker {
    const struct epilogue *epilogue;
    const bf16 *zeros; /* a packed pixel of zeros */
    bf16 *packed;      /* the packed input */
    struct operands *list;
    bf16 *out;
    struct pending pending;
    float (*sums)[4 * RESULT]; /* one is pending while the other is computed */
};

/* Computes one panel of row i of 16 images. */
static void run_row(const struct geometry *r, struct worker *p, int first, int i, const bf16 *packed, int panel,
                    const bf16 *weights)
{
    int images = min_int(r->n - first, EDGE), channels = r->d - panel * 2 * EDGE, phases = r->adjoint ? r->stride : 1;
    size_t image = (size_t)r->oh * r->ow * r->d,
           row = first * image + (size_t)i * r->ow * r->d + (size_t)panel * 2 * EDGE;
    bool two_right = channels > EDGE;
    for (int phase = 0; phase < phases; phase++) /* the columns of a phase come from the same taps */
        for (int j = phase; j < r->ow; j += 2 * phases) {
            int other = j + phases < r->ow ? j + phases : j;
            int count = list_taps(r, i, j, other, packed, weights, p->zeros, p->list);
            int stored = count > 0 ? ceil_div(2 * EDGE, count * r->steps) : 0;
            float *sums = p->sums[p->pending.sums == p->sums[0]];
            if (!two_right)
                memset(sums, 0, 4 * RESULT * sizeof *sums);
            for (int from = 0; from == 0 || from < count; from += MAX_PRODUCTS)
                multiply_overlapped(p->list + from, min_int(count - from, MAX_PRODUCTS), r->steps, TILE, DEPTH,
                                    2 * TILE, other != j, two_right, from > 0, sums, NULL, 0, &p->pending, stored);
            store_all_pending(&p->pending);
            p->pending = (struct pending){ .epilogue = p->epilogue,
                                           .out = p->out,
                                           .sums = sums,
                                           .count = { images, other != j ? images : 0 },
                                           .at = { row + (size_t)j * r->d, row + (size_t)other * r->d },
                                           .pixel_stride = image,
                                           .mask = mask_of_first(channels) };
        }
}

/* A thread's scratch: its packed input, and the products of two pixels. */
static size_t thread_bytes(const struct geometry *r)
{
    size_t bytes = packed_values(r) * sizeof(bf16) + (size_t)r->k * r->k * sizeof(struct operands);
    return (bytes + 4095) / 4096 * 4096 + ARENA_ALIGN;
}

/* Computes rows [from, to) of `groups` groups of images, from group `group` on. */
static void run_span(const struct geometry *r, const struct conv_shape *s, struct worker *p, const bf16 *in,
                     const bf16 *weights, int group, int groups, int from, int to)
{
    int packed_to = 0;
    for (int row = from; row < to; row += r->rows) {
        int end = min_int(row + r->rows, to), top = first_row(r, row), bottom = end_row(r, end - 1);
        top = top > packed_to ? top : packed_to;
        for (int g = 0; g < groups; g++)
            pack_rows(r, s, in, (group + g) * EDGE, top, bottom, p->packed + g * r->ring * packed_row(r));
        packed_to = bottom > packed_to ? bottom : packed_to;
        for (int panel = 0; panel < r->panels; panel++)
            for (int g = 0; g < groups; g++)
                for (int i = row; i < end; i++)
                    run_row(r, p, (group + g) * EDGE, i, p->packed + g * r->ring * packed_row(r), panel,
                            weights + packed_weights(r) / r->panels * panel);
    }
}

/* Kernels that are faster for this shape, or NULL. */
static const struct conv_algorithm *specialised(const struct conv_shape *s, enum conv_use use)
{
    return ISA_NAME(bf16_wide_rows).fits(s, use)      ? &ISA_NAME(bf16_wide_rows)
           : ISA_NAME(bf16_few_channels).fits(s, use) ? &ISA_NAME(bf16_few_channels)
           : ISA_NAME(bf16_one_image).fits(s, use)    ? &ISA_NAME(bf16_one_image)
                                                      : NULL;
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    const struct conv_algorithm *other = specialised(s, use);
    if (other) {
        other->run(s, use, in, packed, out, epilogue, threads, scratch);
        return;
    }
    struct geometry r = geometry_of(s, use, threads);
    struct epilogue e = *epilogue;
    bf16 *zeros = scratch;
    memset(zeros, 0, (size_t)r.steps * TILE * sizeof *zeros);
    if (e.kind != EPILOGUE_LINEAR) {
        e.alpha *= e.nu;
        e.beta *= e.nu;
    }
#pragma omp parallel
    {
        float sums[2][4 * RESULT] __attribute__((aligned(64)));
        struct worker p = { .epilogue = &e, .zeros = zeros, .out = out, .pending = { .next = 2 * EDGE }, .sums = sums };
        p.packed = zeros + (size_t)r.steps * TILE + (size_t)thread_number() * thread_bytes(&r) / sizeof(bf16);
        p.list = (struct operands *)(p.packed + packed_values(&r));
        begin_tiles();
#pragma omp for schedule(static)
        for (int unit = 0; unit < ceil_div(r.groups, r.groups_at_once) * r.spans; unit++) {
            int group = unit / r.spans * r.groups_at_once, span = unit % r.spans;
            run_span(&r, s, &p, in, packed, group, min_int(r.groups - group, r.groups_at_once), r.oh * span / r.spans,
                     r.oh * (span + 1) / r.spans);
        }
        store_all_pending(&p.pending);
        end_tiles();
    }
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    if (use == CONV_GRADIENT)
        return ISA_NAME(bf16_gradient_bytes)(s, threads);
    if (specialised(s, use))
        return specialised(s, use)->scratch_bytes(s, use, threads);
    struct geometry r = geometry_of(s, use, threads);
    return (size_t)r.steps * TILE * sizeof(bf16) + threads * thread_bytes(&r);
}

static bool fits(const struct conv_shape *s, enum conv_use use)
{
    (void)s;
    (void)use;
    return true;
}

const struct conv_algorithm ISA_NAME(bf16) = {
    .name = "bf16",
    .fits = fits,
    .packed_bytes = packed_bytes,
    .scratch_bytes = scratch_bytes,
    .pack = pack,
    .run = run,
    .gradient = ISA_NAME(bf16_gradient),
};
