/* test_resize.c - resizing and the crop of an evaluation give exactly the values of Pillow. */
#include "base/file.h"
#include "data/format/format.h"
#include "data/read/augment.h"
#include "tests/check.h"
#include "tests/data/image/pillow.h"
#include "tests/data/make.h"

/* The largest difference of two images. */
static int distance(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    int most = 0;
    for (size_t i = 0; i < bytes; i++)
        most = abs(a[i] - b[i]) > most ? abs(a[i] - b[i]) : most;
    return most;
}

/* A window of a resize, perhaps mirrored, equals that part of the whole. Its input is exactly resize_input_box, in
 * separate memory, so that a sanitizer notices reads beyond it. */
static void check_window(struct resizer *r, struct view in, int width, int height, struct box window, bool mirror,
                         const uint8_t *expected)
{
    struct resize z = { in.width, in.height, width, height, window, mirror };
    struct box box = resize_input_box(&z);
    size_t row = (size_t)box.width * 3;
    uint8_t *part = malloc(row * box.height);
    CHECK(box.x >= 0 && box.y >= 0 && box.x + box.width <= in.width && box.y + box.height <= in.height,
          "%d x %d to %d x %d: needs what is not there", in.width, in.height, width, height);
    for (int y = 0; y < box.height; y++)
        memcpy(part + y * row, in.pixels + (box.y + y) * in.stride + (size_t)box.x * 3, row);
    CHECK(resize_begin(r, &z, (struct view){ part, row, box.width, box.height }) == STATUS_OK, "%s", status_message());
    int wrong = 0;
    for (int y = 0; y < window.height; y++) {
        const uint8_t *got = resize_row(r, y);
        for (int x = 0; x < window.width; x++) {
            int from = window.x + (mirror ? window.width - 1 - x : x);
            wrong += memcmp(got + 3 * x, expected + ((size_t)(window.y + y) * width + from) * 3, 3) != 0;
        }
    }
    CHECK(wrong == 0, "%s: %d x %d to %d x %d: %d pixels of a window differ", r->kernels->name, in.width, in.height,
          width, height, wrong);
    free(part);
}

/* Compares a whole resize, and windows of it, with Pillow's, for every set of kernels. */
static void check_resize(struct view in, int width, int height, const uint8_t *expected)
{
    enum { GUARD = 8 };
    const struct pixel_kernels *sets[PIXEL_KERNEL_SETS];
    size_t bytes = (size_t)width * height * 3;
    uint8_t *out = malloc(bytes + GUARD);
    for (int k = pixel_kernel_sets(sets) - 1; k >= 0; k--) {
        struct resizer r = { .kernels = sets[k] };
        memset(out, 0xa5, bytes + GUARD);
        CHECK(resize_image(&r, in, width, height, out) == STATUS_OK, "%s", status_message());
        CHECK(distance(out, expected, bytes) == 0, "%s: %d x %d to %d x %d: off by %d", sets[k]->name, in.width,
              in.height, width, height, distance(out, expected, bytes));
        for (int i = 0; i < GUARD; i++)
            CHECK(out[bytes + i] == 0xa5, "wrote behind the end");
        int x = width / 3, y = height / 4;
        struct box window = { x, y, width - x - width / 5, height - y - height / 6 };
        check_window(&r, in, width, height, window, false, expected);
        check_window(&r, in, width, height, window, true, expected);
        resizer_finish(&r);
    }
    free(out);
}

static void check_evaluation(struct augment_scratch *scratch, struct view in, int side, const uint8_t *expected)
{
    struct augmenter augmenter;
    size_t values = (size_t)side * side * 3;
    float *out = malloc(values * sizeof *out);
    augmenter_init(&augmenter, AUGMENT_IMAGENET, false, side, 0, (double[]){ 0, 0, 0 }, (double[]){ 1, 1, 1 });
    struct augment_plan plan = augment_plan(&augmenter, in.width, in.height, 0, 0);
    struct view part = view_crop(in, plan.input.x, plan.input.y, plan.input.width, plan.input.height);
    CHECK(augment_begin(&augmenter, scratch, &plan, part) == STATUS_OK, "%s", status_message());
    CHECK(augment_end(&augmenter, scratch, &plan, out) == STATUS_OK, "%s", status_message());
    int wrong = 0;
    for (size_t i = 0; i < values; i++)
        wrong += lrintf(out[i] * 255) != expected[i];
    CHECK(wrong == 0, "%d x %d to %d: %d values differ", in.width, in.height, side, wrong);
    free(out);
}

/* Normalised values are those of double precision, rounded once. Vectors give the same. */
static void check_normaliser(void)
{
    static const double cases[][2][3] = {
        { { .485, .456, .406 }, { .229, .224, .225 } },
        { { .4914, .4822, .4465 }, { .2023, .1994, .2010 } },
        { { 0, 0, 0 }, { 1, 1, 1 } },
        { { .5, .5, .5 }, { .25, .5, .2 } },
        { { .1, .9, 1 }, { 1e-3, 1e-6, 1 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct augmenter a;
        struct augment_scratch scratch = { .line = NULL };
        enum { SIZE = 19 };
        uint8_t pixels[SIZE * SIZE * 3];
        float out[SIZE * SIZE * 3];
        for (int k = 0; k < SIZE * SIZE * 3; k++)
            pixels[k] = (uint8_t)(k * 7);
        augmenter_init(&a, AUGMENT_NONE, false, SIZE, 0, cases[i][0], cases[i][1]);
        CHECK(a.normaliser_exact || i > 2, "case %zu: vectors would not do", i); /* others may use the table */
        struct augment_plan plan = augment_plan(&a, SIZE, SIZE, 0, 0);
        CHECK(augment_begin(&a, &scratch, &plan, (struct view){ pixels, SIZE * 3, SIZE, SIZE }) == STATUS_OK, "memory");
        CHECK(augment_end(&a, &scratch, &plan, out) == STATUS_OK, "%s", status_message());
        int wrong = 0;
        for (int k = 0; k < SIZE * SIZE * 3; k++)
            wrong += out[k] != (float)((pixels[k] / 255.0 - cases[i][0][k % 3]) / cases[i][1][k % 3]);
        CHECK(wrong == 0, "case %zu: %d values are not rounded once", i, wrong);
        augment_scratch_finish(&scratch);
    }
}

/* Boxes are inside the image with the requested area and shape, and the fallback is the centre. */
static void check_boxes(void)
{
    struct philox stream;
    double areas = 0;
    enum { DRAWS = 20000 };
    philox_init(&stream, 1, PHILOX_DOMAIN_AUGMENT, 0);
    for (int i = 0; i < DRAWS; i++) {
        struct box b = random_crop_box(&stream, 400, 300);
        double area = (double)b.width * b.height / (400 * 300), ratio = (double)b.width / b.height;
        CHECK(b.x >= 0 && b.y >= 0 && b.width > 0 && b.height > 0 && b.x + b.width <= 400 && b.y + b.height <= 300,
              "%d x %d at %d, %d", b.width, b.height, b.x, b.y);
        CHECK(area > 0.078 && area <= 1 && ratio > 0.73 && ratio < 1.36, "area %g, ratio %g", area, ratio);
        areas += area;
    }
    CHECK(fabs(areas / DRAWS - 0.4329) < 0.01, "mean area %g", areas / DRAWS); /* the mean of 200,000 draws in Python */
    struct box wide = random_crop_box(&stream, 1000, 2), tall = random_crop_box(&stream, 3, 999),
               one = random_crop_box(&stream, 1, 1);
    CHECK(wide.height <= 2 && wide.width <= 3 && wide.x + wide.width <= 1000, "%d x %d", wide.width, wide.height);
    CHECK(tall.width <= 3 && tall.height <= 4 && tall.y + tall.height <= 999, "%d x %d", tall.width, tall.height);
    CHECK(one.width == 1 && one.height == 1 && one.x == 0 && one.y == 0, "%d x %d", one.width, one.height);
}

int main(void)
{
    char folder[64], path[96], *data = NULL;
    size_t bytes, at = 0;
    struct augment_scratch scratch = { .line = NULL };
    check_boxes();
    check_normaliser();
    make_folder(folder);
    snprintf(path, sizeof path, "%s/cases", folder);
    if (!run_pillow("resize", path)) {
        remove_folder(folder);
        return check_failures ? 1 : check_skip("no Python with Pillow");
    }
    CHECK(file_read(path, 1 << 28, &data, &bytes) == STATUS_OK, "%s", status_message());
    while (data && at < bytes) {
        uint32_t head[6];
        for (int i = 0; i < 6; i++)
            head[i] = get32((uint8_t *)data + at + 4 * i);
        const uint8_t *in = (uint8_t *)data + at + 24, *expected = in + (size_t)head[1] * head[2] * 3;
        struct view view = { in, (size_t)head[1] * 3, (int)head[1], (int)head[2] };
        if (head[0] == 0)
            check_resize(view, (int)head[3], (int)head[4], expected);
        else
            check_evaluation(&scratch, view, (int)head[3], expected);
        at += 24 + (size_t)head[1] * head[2] * 3 + (size_t)head[3] * head[4] * 3;
    }
    free(data);
    augment_scratch_finish(&scratch);
    remove_folder(folder);
    return check_done("resize");
}
