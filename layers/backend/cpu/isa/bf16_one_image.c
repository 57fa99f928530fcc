/* bf16_one_image.c - bf16 convolutions of images of about 16 columns or more, one image at a time.
 * The rows of a left tile are what a tap reads for 16 outputs of a row: pixels a constant step apart, which load as
 * a tile from a copy of the row with zeros on both sides. Where a stride spreads the outputs of an adjoint, they are
 * the outputs of one phase. Rows are read and written in order, and what neighbouring rows share stays in the L1
 * cache:
 *   M (16 columns, 32 outputs) = sum over taps and channels of  X (16 columns, 32 channels) W (32 channels, 32)
 * If the number of channels is no multiple of 32, a value that is not finite may reach a neighbouring pixel.
 * Weights are packed by bf16.c. Compiled as bf16.c is. */
#include "layers/backend/cpu/isa/bf16_tiles.h"

enum { PREFETCHED = 4 }; /* cache lines at each product */

/* A convolution as it is computed. For an adjoint, the input is the code and the output the image. */
struct geometry {
    int h, w, c, oh, ow, d;
    int k, stride, pad;
    bool adjoint;
    int phases;        /* an adjoint's outputs i and i + phases come from the same taps */
    int column_step;   /* columns of the input between neighbouring outputs of a phase */
    int groups;        /* groups of 16 outputs of a phase of a row */
    int rows;          /* of the output at a time: two of each phase if a row is a single group */
    int steps, panels; /* groups of 32 channels of the input and of the output */
    int left_zeros;    /* columns of zeros before a row */
    size_t row;        /* values of a row with its zeros, as far as tiles read */
    int ring;          /* rows of the input that `rows` read; row y is at y % ring, and a row of zeros follows */
};

static struct geometry geometry_of(const struct conv_shape *s, enum conv_use use)
{
    struct geometry v = { .h = s->h,
                          .w = s->w,
                          .c = s->c,
                          .oh = conv_out_h(s),
                          .ow = conv_out_w(s),
                          .d = s->d,
                          .k = s->k,
                          .stride = s->stride,
                          .pad = s->pad,
                          .adjoint = use == CONV_ADJOINT,
                          .phases = 1,
                          .column_step = s->stride };
    if (v.adjoint) {
        v.h = conv_out_h(s), v.w = conv_out_w(s), v.c = s->d;
        v.oh = s->h, v.ow = s->w, v.d = s->c;
        v.phases = s->stride, v.column_step = 1;
    }
    v.groups = ceil_div(ceil_div(v.ow, v.phases), EDGE);
    v.rows = v.groups == 1 ? 2 * v.phases : v.phases;
    v.steps = ceil_div(v.c, DEPTH);
    v.panels = ceil_div(v.d, 2 * EDGE);
    v.left_zeros = v.adjoint ? ceil_div(v.k - 1, v.stride) : v.pad;
    int last = (v.groups * EDGE - 1) * v.column_step +
               (v.adjoint ? (v.phases - 1 + v.pad) / v.stride : v.k - 1 - v.pad);
    int columns = v.left_zeros + (last + 1 > v.w ? last + 1 : v.w);
    v.row = (size_t)ceil_div(columns * v.c, DEPTH) * DEPTH + DEPTH;
    v.ring = v.adjoint ? (v.rows + v.k - 2) / v.stride + 2 : (v.rows - 1) * v.stride + v.k;
    return v;
}

/* Compares how full tiles are here and in bf16.c, which is a little slower with equally full tiles. */
static bool fits(const struct conv_shape *s, enum conv_use use)
{
    if (use == CONV_GRADIENT || s->c < DEPTH / 2 || s->d < DEPTH / 2)
        return false;
    struct geometry v = geometry_of(s, use);
    return 8.0 * ceil_div(v.ow, v.phases) / (v.groups * EDGE) > 7.0 * s->n / (ceil_div(s->n, EDGE) * EDGE);
}

static size_t thread_bytes(const struct conv_shape *s, enum conv_use use)
{
    struct geometry v = geometry_of(s, use);
    size_t bytes = (v.ring + 1) * v.row * sizeof(bf16) + (size_t)v.k * v.k * sizeof(struct operands);
    return (bytes + 4095) / 4096 * 4096 + ARENA_ALIGN;
}

static size_t scratch_bytes(const struct conv_shape *s, enum conv_use use, int threads)
{
    return threads * thread_bytes(s, use);
}

/* What a thread works with. */
struct worker {
    const struct epilogue *epilogue;
    const bf16 *weights;
    bf16 *ring, *zeros; /* rows of the input, and one of zeros */
    struct operands *list;
    size_t image; /* where the output's image begins, in values */
    bf16 *out;
    const bf16 *next; /* the next rows of the input, to be prefetched */
    struct pending pending;
    float (*sums)[4 * RESULT]; /* one is pending while the other is computed */
};

/* The row of the input that output row i reads by tap a, which is `zeros` outside the image. NULL if the tap belongs to
 * another phase. */
static const bf16 *row_at(const struct geometry *v, const struct worker *p, int i, int a)
{
    int y = v->adjoint ? i + v->pad - a : i * v->stride - v->pad + a;
    if (v->adjoint && (y + v->k * v->stride) % v->stride != 0)
        return NULL;
    y = v->adjoint && y >= 0 ? y / v->stride : y;
    return i >= v->oh || y < 0 || y >= v->h ? p->zeros : p->ring + y % v->ring * v->row;
}

/* The column, counted from the first zero, that the first output of a phase reads by tap b. -1 if the tap belongs to
 * another phase. */
static int column_at(const struct geometry *v, int phase, int b)
{
    if (!v->adjoint)
        return v->left_zeros - v->pad + b;
    int at = phase + v->pad - b + v->left_zeros * v->stride;
    return at % v->stride == 0 ? at / v->stride : -1;
}

/* Computes all panels of 16 outputs of group `first` in row i and, if `two`, of group `other` in row `below`. */
static void run_pair(const struct geometry *v, struct worker *p, int phase, int i, int first, int below, int other,
                     bool two)
{
    int count = 0, phase_columns = ceil_div(v->ow - phase, v->phases);
    for (int a = 0; a < v->k; a++) {
        const bf16 *row = row_at(v, p, i, a), *second = row_at(v, p, below, a);
        if (!row || (row == p->zeros && second == p->zeros))
            continue;
        for (int b = 0; b < v->k; b++) {
            int column = column_at(v, phase, b);
            const bf16 *w = p->weights + (size_t)(a * v->k + b) * v->steps * 2 * TILE;
            if (column >= 0)
                p->list[count++] = (struct operands){ { row + ((size_t)first * EDGE * v->column_step + column) * v->c,
                                                        second +
                                                            ((size_t)other * EDGE * v->column_step + column) * v->c },
                                                      { w, w + TILE } };
        }
    }
    size_t panel_values = (size_t)v->k * v->k * v->steps * 2 * TILE;
    size_t pixel_stride = (size_t)v->phases * v->d;
    struct pending next = { .epilogue = p->epilogue, .out = p->out, .pixel_stride = pixel_stride };
    next.count[0] = min_int(phase_columns - first * EDGE, EDGE);
    next.count[1] = two ? min_int(phase_columns - other * EDGE, EDGE) : 0;
    next.at[0] = p->image + ((size_t)i * v->ow + phase) * v->d + first * EDGE * pixel_stride;
    next.at[1] = p->image + ((size_t)below * v->ow + phase) * v->d + other * EDGE * pixel_stride;
    int stored = count > 0 ? ceil_div(2 * EDGE, count * v->steps) : 0;
    for (int panel = 0; panel < v->panels; panel++) {
        int channels = v->d - panel * 2 * EDGE;
        bool two_right = channels > EDGE;
        float *sums = p->sums[p->pending.sums == p->sums[0]];
        if (!two_right || count == 0)
            memset(sums, 0, 4 * RESULT * sizeof *sums);
        for (int from = 0; from < count; from += MAX_PRODUCTS)
            multiply_overlapped(p->list + from, min_int(count - from, MAX_PRODUCTS), v->steps, DEPTH,
                                (size_t)v->column_step * v->c, 2 * TILE, two, two_right, from > 0, sums, p->next,
                                PREFETCHED, &p->pending, stored);
        p->next += count * PREFETCHED * DEPTH;
        store_all_pending(&p->pending);
        next.sums = sums;
        next.mask = mask_of_first(channels);
        p->pending = next;
        next.at[0] += 2 * EDGE;
        next.at[1] += 2 * EDGE;
        for (int t = 0; t < count; t++) {
            p->list[t].b[0] += panel_values;
            p->list[t].b[1] += panel_values;
        }
    }
}

/* Computes rows [from, to) of an image from its input `in`. */
static void run_rows(const struct geometry *v, struct worker *p, const bf16 *in, int from, int to)
{
    size_t row = (size_t)v->w * v->c;
    int loaded = 0; /* rows below this one are in the ring */
    for (int i = from; i < to; i += v->rows) {
        int top = v->adjoint ? i + v->pad - v->k + 1 : i * v->stride - v->pad;
        int end = v->adjoint ? (i + v->rows - 1 + v->pad) / v->stride + 1
                             : (i + v->rows - 1) * v->stride - v->pad + v->k;
        top = top < 0 ? 0 : v->adjoint ? ceil_div(top, v->stride) : top;
        loaded = loaded < top ? top : loaded;
        for (; loaded < min_int(end, v->h); loaded++)
            memcpy(p->ring + loaded % v->ring * v->row + (size_t)v->left_zeros * v->c, in + loaded * row,
                   row * sizeof *in);
        p->next = in + loaded * row;
        for (int phase_row = 0; phase_row < v->phases && i + phase_row < to; phase_row++)
            for (int phase = 0; phase < min_int(v->phases, v->ow); phase++)
                for (int g = 0; g < v->groups; g += 2) {
                    int first = i + phase_row, below = v->groups == 1 ? first + v->phases : first;
                    bool two = v->groups == 1 ? below < to : g + 1 < v->groups;
                    run_pair(v, p, phase, first, g, two ? below : first, v->groups > 1 && two ? g + 1 : g, two);
                }
    }
}

static void run(const struct conv_shape *s, enum conv_use use, const void *in, const void *packed, void *out,
                const struct epilogue *epilogue, int threads, void *scratch)
{
    struct geometry v = geometry_of(s, use);
    struct epilogue e = *epilogue;
    int blocks = ceil_div(v.oh, v.rows), spans = s->n % threads == 0 ? 1 : min_int(threads, blocks);
    if (e.kind != EPILOGUE_LINEAR) {
        e.alpha *= e.nu;
        e.beta *= e.nu;
    }
#pragma omp parallel
    {
        bf16 *ring = (bf16 *)((char *)scratch + thread_number() * thread_bytes(s, use));
        float sums[2][4 * RESULT] __attribute__((aligned(64)));
        struct worker p = { .epilogue = &e,
                            .weights = packed,
                            .ring = ring,
                            .zeros = ring + v.ring * v.row,
                            .out = out,
                            .pending = { .next = 2 * EDGE },
                            .sums = sums };
        p.list = (struct operands *)(p.zeros + v.row);
        memset(ring, 0, (v.ring + 1) * v.row * sizeof *ring);
        begin_tiles();
#pragma omp for schedule(static)
        for (int unit = 0; unit < s->n * spans; unit++) {
            int n = unit / spans, span = unit % spans, from = blocks * span / spans * v.rows,
                to = blocks * (span + 1) / spans * v.rows;
            p.image = (size_t)n * v.oh * v.ow * v.d;
            run_rows(&v, &p, (const bf16 *)in + (size_t)n * v.h * v.w * v.c, from, min_int(to, v.oh));
        }
        store_all_pending(&p.pending);
        end_tiles();
    }
}

const struct conv_algorithm ISA_NAME(bf16_one_image) = {
    .name = "bf16_one_image",
    .fits = fits,
    .scratch_bytes = scratch_bytes,
    .run = run,
};
