/* bf16_rows.c - forward convolutions of large images of few channels, such as ImageNet's stem, for bf16. What a row of the
 * kernel reads for 16 columns of output are 16 overlapping runs of k C values in one row of the image,
 *     run j starts at column stride j - pad:   [ . . . k C . . . | values of weight 0 ]   32 values
 * which load as a tile from where they are: nothing is packed but the image's border, and the output is written in order.
 * A value that is not finite reaches a few columns more than it should. Compiled as bf16.c is; ROWS_BF16 names the table. */
#include "layers/cpu/bf16_tiles.h"

static bool fits(const struct conv_shape *s, enum conv_use use)
{
    return use == CONV_FORWARD && gather_of(s) == GATHER_ROW && s->k * s->c <= DEPTH && s->k <= LIST && conv_out_w(s) >= EDGE;
}

/* A row of the image between zeros, as far as the last tile reads. */
static size_t row_values(const struct conv_shape *s)
{
    size_t image = (size_t)(s->w + 2 * s->pad) * s->c, read = (size_t)up(conv_out_w(s), 2 * EDGE) * 2 * EDGE * s->stride * s->c;
    return ((image > read ? image : read) + 2 * DEPTH) / DEPTH * DEPTH;
}

static size_t thread_bytes(const struct conv_shape *s)
{
    return (s->k * row_values(s) * sizeof(bf16) + 4095) / 4096 * 4096 + ARENA_ALIGN;
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    (void)use;
    return threads * thread_bytes(s);
}

/* Output row i of one image, from rows y % k of the ring. */
static void run_row(const struct conv_shape *s, const struct epilogue *e, int i, const bf16 *ring, const bf16 *weights,
                    size_t at, bf16 *out)
{
    float sums[4 * RESULT] __attribute__((aligned(64)));
    struct operands list[LIST];
    int columns = conv_out_w(s);
    size_t step = (size_t)s->stride * s->c, panel_values = (size_t)s->k * 2 * TILE;
    for (int j = 0; j < columns; j += 2 * EDGE)
        for (int d = 0; d < s->d; d += 2 * EDGE) {
            int count = 0, there = least(columns - j, 2 * EDGE);
            bool two_left = there > EDGE, two_right = s->d - d > EDGE;
            for (int a = 0; a < s->k; a++) {
                int y = i * s->stride - s->pad + a;
                if (y < 0 || y >= s->h)
                    continue;
                const bf16 *from = ring + y % s->k * row_values(s) + j * step;
                const bf16 *w = weights + d / (2 * EDGE) * panel_values + (size_t)a * 2 * TILE;
                list[count++] = (struct operands){ { from, from + EDGE * step }, { w, w + TILE } };
            }
            if (!two_right)
                memset(sums, 0, sizeof sums);
            sum_products(list, count, 1, step, 2 * TILE, two_left, two_right, false, sums);
            size_t to = at + (size_t)j * s->d + d;
            store_pixels(e, sums, least(there, EDGE), to, s->d, first_of_32(s->d - d), out);
            if (two_left)
                store_pixels(e, sums + 2 * RESULT, there - EDGE, to + (size_t)EDGE * s->d, s->d, first_of_32(s->d - d), out);
        }
}

/* Output rows [from, to) of image n. */
static void run_span(const struct conv_shape *s, const struct epilogue *e, int n, int from, int to, const bf16 *in,
                     const bf16 *weights, bf16 *ring, bf16 *out)
{
    size_t row = (size_t)s->w * s->c, result = (size_t)conv_out_w(s) * s->d;
    int loaded = from * s->stride - s->pad; /* up to here */
    loaded = loaded < 0 ? 0 : loaded;
    for (int i = from; i < to; i++) {
        int end = least(i * s->stride - s->pad + s->k, s->h), first = i * s->stride - s->pad;
        loaded = loaded < first ? first : loaded; /* with strides above k */
        for (; loaded < end; loaded++)
            memcpy(ring + loaded % s->k * row_values(s) + s->pad * s->c, in + ((size_t)n * s->h + loaded) * row, row * sizeof *in);
        run_row(s, e, i, ring, weights, ((size_t)n * conv_out_h(s) + i) * result, out);
    }
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct epilogue e = *epilogue;
    int rows = conv_out_h(s), spans = s->n % threads == 0 ? 1 : least(threads, rows);
    (void)use;
    if (e.kind != EPILOGUE_LINEAR) {
        e.alpha *= e.nu;
        e.beta *= e.nu;
    }
#pragma omp parallel
    {
        bf16 *ring = (bf16 *)((char *)scratch + thread_number() * thread_bytes(s));
        memset(ring, 0, s->k * row_values(s) * sizeof *ring);
        begin_tiles();
#pragma omp for schedule(static)
        for (int unit = 0; unit < s->n * spans; unit++)
            run_span(s, &e, unit / spans, rows * (unit % spans) / spans, rows * (unit % spans + 1) / spans, in, packed, ring,
                     out);
        end_tiles();
    }
}

const struct own_kernels ROWS_BF16 = {
    .fits = fits,
    .scratch_bytes = scratch_bytes,
    .run = run,
};
