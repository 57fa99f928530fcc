/* test_kernels.c - what the CUDA backend's kernels do beyond the table of operations: masks as bits, sums that are
 * left for a batch norm, a power iteration and step sizes that stay on the device, images from bytes, gradients to
 * and from bf16. Each is compared with its definition in double, for odd sizes, aligned and not, on the emulated
 * GPU. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "comm/nccl_cast.h"
#include "layers/backend/cuda/kernels/kernels.h"
#include "layers/backend/element.h"
#include "layers/csc.h"
#include "tests/check.h"

static struct philox stream;

static enum precision precision_of(const struct queue *q)
{
    return q->type == BF16 ? PRECISION_BF16 : PRECISION_FP32;
}

static float *random_floats(size_t count)
{
    float *v = malloc(count * sizeof *v + sizeof *v);
    for (size_t i = 0; i < count; i++)
        v[i] = (float)philox_normal(&stream);
    return v;
}

/* Random activations at an address `shift` elements behind a multiple of 64 bytes. */
struct activations {
    char *memory;
    void *data;
};

static struct activations activations(const struct queue *q, size_t count, int shift)
{
    size_t bytes = precision_bytes(precision_of(q));
    struct activations a = { .memory = aligned_alloc(64, (count + 64) * sizeof(float) / 64 * 64 + 64) };
    a.data = a.memory + shift * bytes;
    for (size_t i = 0; i < count; i++)
        element_store(precision_of(q), a.data, i, (float)philox_normal(&stream));
    return a;
}

static double at(const struct queue *q, const struct activations *a, size_t i)
{
    return element_load(precision_of(q), a->data, i);
}

static double rounding(const struct queue *q)
{
    return q->type == BF16 ? 0x1p-8 : 1e-6;
}

/* ---- shrinkage: code, mask and sums in one pass; then the mask is used ---- */

static void check_shrink(struct queue *q, size_t rows, int c, int shift, bool nonnegative)
{
    size_t count = rows * c, wrong = 0, wrong_bits = 0, wrong_masks = 0;
    struct activations conv = activations(q, count, shift), add = activations(q, count, shift);
    struct activations code = activations(q, count, shift), back = activations(q, count, shift);
    uint8_t *bits = calloc(count / 8 + 1, 1);
    struct epilogue e = { .kind = EPILOGUE_SHRINK,
                          .alpha = 0.7f,
                          .beta = 1,
                          .add = add.data,
                          .nu = 0.8f,
                          .threshold = 0.4f,
                          .nonnegative = nonnegative };
    bool has_bits = c % 8 == 0 && shift == 0;
    int parts = kernel_epilogue(q, &e, q->type, conv.data, code.data, rows, c, bits, true);
    double *sums = calloc(2 * c, sizeof *sums);
    for (size_t i = 0; i < count; i++) {
        double v = 0.8 * (0.7f * at(q, &conv, i) + at(q, &add, i)), size = fmax(fabs(v) - 0.4f, 0);
        double expected = v >= 0 ? size : nonnegative ? 0 : -size, got = at(q, &code, i);
        wrong += !(fabs(got - expected) <= rounding(q) * fabs(expected) + 1e-6);
        if (has_bits)
            wrong_bits += (bits[i / 8] >> i % 8 & 1) != (got != 0);
        sums[i % c] += got;
        sums[c + i % c] += got * got;
    }
    CHECK(wrong == 0, "%zu of %zu codes (rows %zu, c %d, shift %d)", wrong, count, rows, c, shift);
    CHECK(wrong_bits == 0, "%zu bits (rows %zu, c %d)", wrong_bits, rows, c);
    for (int i = 0; i < 2 * c; i++) {
        double got = 0;
        for (int p = 0; p < parts; p++)
            got += ((float *)q->partials)[(size_t)p * 2 * c + i];
        CHECK(fabs(got - sums[i]) <= (q->type == BF16 ? 8e-3 : 1e-5) * ((double)rows + 1 + sums[c + i % c]),
              "sum %d of %d channels, %zu rows: %g, should be %g", i, c, rows, got, sums[i]);
    }
    if (has_bits) {
        struct epilogue masked = { .kind = EPILOGUE_MASK, .alpha = -1, .beta = 1, .add = add.data, .nu = 0.5f };
        kernel_epilogue(q, &masked, q->type, conv.data, back.data, rows, c, bits, false);
        for (size_t i = 0; i < count; i++) {
            double expected = at(q, &code, i) != 0 ? 0.5 * (at(q, &add, i) - at(q, &conv, i)) : 0;
            wrong_masks += !(fabs(at(q, &back, i) - expected) <= rounding(q) * fabs(expected) + 1e-6);
        }
        kernel_mask(q, conv.data, NULL, bits, 2, NULL, back.data, count);
        for (size_t i = 0; i < count; i++)
            wrong_masks += at(q, &back, i) != (at(q, &code, i) != 0 ? 2 * at(q, &conv, i) : 0);
    }
    CHECK(wrong_masks == 0, "%zu values masked by bits (rows %zu, c %d)", wrong_masks, rows, c);
    free(conv.memory);
    free(add.memory);
    free(code.memory);
    free(back.memory);
    free(bits);
    free(sums);
}

static void test_shrink(struct queue *q)
{
    static const int channels[] = { 1, 3, 8, 17, 64, 264 };
    static const size_t rows[] = { 1, 7, 130, 700 };
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 4; j++)
            for (int shift = 0; shift < 2; shift++)
                check_shrink(q, rows[j], channels[i], shift, (i + j) % 2);
}

/* ---- power iteration ---- */

static double square_of(const float *v, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)v[i] * v[i];
    return sum;
}

static void test_power(struct queue *q)
{
    static const size_t codes[] = { 1, 100, 4099 }, pixels[] = { 3, 75, 3072 };
    for (int t = 0; t < 3; t++) {
        float *code = random_floats(codes[t]), *image = random_floats(pixels[t]), *v = random_floats(pixels[t]);
        float *apart = random_floats(pixels[t]), *from = t == 1 ? apart : v;
        double lambda, expected = square_of(code, codes[t]) / square_of(from, pixels[t]), worst = 0;
        kernel_power(q, code, codes[t], from, image, pixels[t], v, &lambda);
        for (size_t i = 0; i < pixels[t]; i++)
            worst = fmax(worst, fabs(v[i] - image[i] / sqrt(square_of(image, pixels[t]))));
        CHECK(fabs(lambda / expected - 1) < 1e-12, "lambda_max %.17g, should be %.17g", lambda, expected);
        CHECK(worst < 1e-6, "vector off by %g", worst);
        free(code);
        free(image);
        free(v);
        free(apart);
    }
}

static void test_step_sizes(struct queue *q)
{
    enum { COUNT = 300 };
    const struct csc_config config = { .lambda = 0.13f, .mu = 0.7f };
    double lambda_max[COUNT];
    float scalars[COUNT][STEP_SCALARS], expected[STEP_SCALARS];
    for (int i = 0; i < COUNT; i++)
        lambda_max[i] = i == 0 ? 0 : 0.01 * i * i;
    kernel_step_scalars(q, lambda_max, COUNT, config.lambda, config.mu, scalars[0]);
    for (int i = 0; i < COUNT; i++) {
        csc_step_scalars(&config, (float)(0.9 / fmax(lambda_max[i], 1e-30)), expected);
        CHECK(memcmp(scalars[i], expected, sizeof expected) == 0, "lambda_max %g: eta %.9g, should be %.9g",
              lambda_max[i], scalars[i][0], expected[0]);
    }
}

/* ---- images ---- */

static double filter(double distance)
{
    return fmax(1 - fabs(distance), 0);
}

/* Pillow's rule: the weighted mean of the source pixels under a triangle filter. */
static double resized(const uint8_t *pixels, const struct image_crop *crop, int size, int y, int x, int colour)
{
    double across = (double)(crop->right - crop->left) / size, down = (double)(crop->bottom - crop->top) / size;
    double sum = 0, weights = 0;
    for (int i = crop->top; i < crop->bottom; i++)
        for (int j = crop->left; j < crop->right; j++) {
            double w = filter((i - crop->top + 0.5 - (y + 0.5) * down) / fmax(down, 1)) *
                       filter((j - crop->left + 0.5 - (x + 0.5) * across) / fmax(across, 1));
            sum += w * pixels[crop->offset + ((size_t)i * crop->width + j) * 3 + colour];
            weights += w;
        }
    return sum / weights;
}

static void test_images(struct queue *q)
{
    enum { COUNT = 4, SIZE = 9, HEAD = 256, PIXELS = (20 * 31 + 7 * 5 + 12 * 12 + SIZE * SIZE) * 3 };
    static const double mean[] = { 0.485, 0.456, 0.406 }, std[] = { 0.229, 0.224, 0.225 };
    const struct pixel_scale scale = pixel_scale(mean, std);
    const struct image_crop crops[COUNT] = {
        { HEAD, 20, 31, 0, 0, 20, 31, false },                                           /* reduced */
        { HEAD + 20 * 31 * 3, 7, 5, 1, 0, 6, 4, true },                                  /* enlarged, mirrored */
        { HEAD + (20 * 31 + 7 * 5) * 3, 12, 12, 2, 3, 11, 12, true },                    /* as it is, mirrored */
        { HEAD + (20 * 31 + 7 * 5 + 12 * 12) * 3, SIZE, SIZE, 0, 0, SIZE, SIZE, false }, /* as the loader leaves it */
    };
    size_t wrong = 0;
    uint8_t *raw = malloc(HEAD + PIXELS);
    struct activations out = activations(q, COUNT * SIZE * SIZE * 3, 0);
    CHECK(sizeof crops <= HEAD, "cuts of %zu bytes", sizeof crops);
    memcpy(raw, crops, sizeof crops);
    for (size_t i = 0; i < PIXELS; i++)
        raw[HEAD + i] = (uint8_t)philox_u32(&stream);
    kernel_prepare_images(q, raw, COUNT, SIZE, &scale, out.data);
    for (int i = 0; i < COUNT * SIZE * SIZE * 3; i++) {
        int n = i / 3 / SIZE / SIZE, x = i / 3 % SIZE, y = i / 3 / SIZE % SIZE, colour = i % 3;
        double v = resized(raw, &crops[n], SIZE, y, crops[n].flip ? SIZE - 1 - x : x, colour);
        double expected = (v / 255 - mean[colour]) / std[colour];
        wrong += !(fabs(at(q, &out, i) - expected) <= rounding(q) * fabs(expected) + 1e-5);
    }
    CHECK(wrong == 0, "%zu of %d values", wrong, COUNT * SIZE * SIZE * 3);
    free(raw);
    free(out.memory);
}

/* With ImageNet's and CIFAR's statistics, every byte in every colour gives (v / 255 - mean) / std rounded once, as
 * on the host, even where products and sums are contracted, as on a GPU. */
static void test_exact_images(struct queue *q)
{
    enum { SIZE = 16, VALUES = SIZE * SIZE * 3 };
    static const double statistics[][2][3] = { { { .485, .456, .406 }, { .229, .224, .225 } },
                                               { { .4914, .4822, .4465 }, { .2023, .1994, .2010 } } };
    struct {
        struct image_crop crop;
        uint8_t pixels[VALUES];
    } raw = { { sizeof(struct image_crop), SIZE, SIZE, 0, 0, SIZE, SIZE, false }, { 0 } };
    struct activations out = activations(q, VALUES, 0);
    for (int i = 0; i < VALUES; i++)
        raw.pixels[i] = (uint8_t)(i / 3);
    for (int s = 0; s < 2; s++) {
        const double *mean = statistics[s][0], *std = statistics[s][1];
        const struct pixel_scale scale = pixel_scale(mean, std);
        int wrong = 0, fused_wrong = 0;
        kernel_prepare_images(q, &raw, 1, SIZE, &scale, out.data);
        for (int i = 0; i < VALUES; i++) {
            int c = i % 3;
            float v = (float)(i / 3), expected = (float)((v / 255.0 - mean[c]) / std[c]);
            float fused = fmaf(v, scale.scale_high[c], scale.offset_high[c]) +
                          fmaf(v, scale.scale_low[c], scale.offset_low[c]);
            wrong += at(q, &out, i) != (q->type == BF16 ? bf16_to_float(bf16_from_float(expected)) : expected);
            fused_wrong += fused != expected;
        }
        CHECK(wrong == 0 && fused_wrong == 0, "statistics %d: %d of %d values, %d fused ones", s, wrong, VALUES,
              fused_wrong);
    }
    free(out.memory);
}

/* ---- gradients to and from bf16 ---- */

static void check_casts(size_t count, int shift)
{
    size_t capacity = count + 64;
    float *wide = aligned_alloc(64, (capacity * sizeof *wide + 63) / 64 * 64),
          *back = aligned_alloc(64, (capacity * sizeof *back + 63) / 64 * 64);
    bf16 *narrow = aligned_alloc(64, (capacity * sizeof *narrow + 63) / 64 * 64);
    size_t wrong = 0;
    memset(narrow, 0x5a, capacity * sizeof *narrow);
    memset(back, 0x5a, capacity * sizeof *back);
    for (size_t i = 0; i < capacity; i++)
        wide[i] = (float)philox_normal(&stream) * (i % 5 == 0 ? 1e-39f : i % 7 == 0 ? 1e30f : 1);
    wide[shift] = count % 2 ? INFINITY : -0.0f;
    CHECK(nccl_f32_to_bf16(wide + shift, narrow + shift, count, NULL) == cudaSuccess, "narrow fails");
    CHECK(nccl_bf16_to_f32(narrow + shift, back + shift, count, NULL) == cudaSuccess, "widen fails");
    for (size_t i = 0; i < capacity; i++) {
        bool inside = i >= (size_t)shift && i < shift + count;
        bf16 want = inside ? bf16_from_float(wide[i]) : 0x5a5a;
        float v = bf16_to_float(want);
        wrong += narrow[i] != want ||
                 (inside ? memcmp(&back[i], &v, sizeof v) != 0 : ((uint32_t *)back)[i] != 0x5a5a5a5a);
    }
    CHECK(wrong == 0, "casts of %zu from %d on: %zu wrong", count, shift, wrong);
    free(wide);
    free(back);
    free(narrow);
}

static void test_casts(void)
{
    static const size_t counts[] = { 1, 7, 8, 9, 255, 2048, 2051, 5000 };
    for (int i = 0; i < 8; i++)
        for (int shift = 0; shift < 10; shift++)
            check_casts(counts[i], shift);
}

int main(void)
{
    struct queue q = { .partials = aligned_alloc(64, KERNELS_PARTIAL_BYTES), .multiprocessors = 2 };
    philox_init(&stream, 6, 0x7e57, 0);
    for (int type = F32; type <= BF16; type++) {
        q.type = type;
        test_shrink(&q);
        test_images(&q);
        test_exact_images(&q);
    }
    test_power(&q);
    test_step_sizes(&q);
    test_casts();
    free(q.partials);
    return check_done("kernels");
}
