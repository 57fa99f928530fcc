/* test_resize.c - resizing and evaluation's crop against Pillow: every value the same. */
#include "base/file.h"
#include "data/augment.h"
#include "data/format.h"
#include "tests/check.h"
#include "tests/data/make.h"
#include "tests/data/pillow.h"

/* The largest difference of two images. */
static int distance(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    int most = 0;
    for (size_t i = 0; i < bytes; i++)
        most = abs(a[i] - b[i]) > most ? abs(a[i] - b[i]) : most;
    return most;
}

/* A resize in one piece, and the same through windows of it. */
static void check_resize(struct resizer *r, struct view in, int width, int height, const uint8_t *expected)
{
    enum { GUARD = 8 };
    size_t bytes = (size_t)width * height * 3;
    uint8_t *out = malloc(bytes + GUARD);
    memset(out, 0xa5, bytes + GUARD);
    CHECK(resize_window(r, in, width, height, 0, 0, width, height, out) == STATUS_OK, "%s", status_message());
    CHECK(distance(out, expected, bytes) == 0, "%d x %d to %d x %d: off by %d", in.width, in.height, width, height,
          distance(out, expected, bytes));
    for (int i = 0; i < GUARD; i++)
        CHECK(out[bytes + i] == 0xa5, "wrote behind the end");
    int x = width / 3, y = height / 4, columns = width - x - width / 5, rows = height - y - height / 6;
    CHECK(resize_window(r, in, width, height, x, y, columns, rows, out) == STATUS_OK, "%s", status_message());
    for (int i = 0; i < rows; i++)
        CHECK(!memcmp(out + (size_t)i * columns * 3, expected + ((size_t)(y + i) * width + x) * 3, (size_t)columns * 3),
              "row %d of a window differs", i);
    free(out);
}

static void check_evaluation(struct augment_scratch *scratch, struct view in, int side, const uint8_t *expected)
{
    struct augmenter augmenter;
    size_t values = (size_t)side * side * 3;
    float *out = malloc(values * sizeof *out);
    augmenter_init(&augmenter, AUGMENT_IMAGENET, false, side, 0, (double[]){ 0, 0, 0 }, (double[]){ 1, 1, 1 });
    CHECK(augment_sample(&augmenter, scratch, in, 0, 0, out) == STATUS_OK, "%s", status_message());
    int wrong = 0;
    for (size_t i = 0; i < values; i++)
        wrong += lrintf(out[i] * 255) != expected[i];
    CHECK(wrong == 0, "%d x %d to %d: %d values differ", in.width, in.height, side, wrong);
    free(out);
}

/* Boxes lie inside, their area and shape are as asked, and the fallback is the centre. */
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
    CHECK(fabs(areas / DRAWS - 0.4329) < 0.01, "mean area %g", areas / DRAWS); /* of 200,000 draws in Python */
    struct box wide = random_crop_box(&stream, 1000, 2), tall = random_crop_box(&stream, 3, 999), one = random_crop_box(&stream, 1, 1);
    CHECK(wide.height <= 2 && wide.width <= 3 && wide.x + wide.width <= 1000, "%d x %d", wide.width, wide.height);
    CHECK(tall.width <= 3 && tall.height <= 4 && tall.y + tall.height <= 999, "%d x %d", tall.width, tall.height);
    CHECK(one.width == 1 && one.height == 1 && one.x == 0 && one.y == 0, "%d x %d", one.width, one.height);
}

int main(void)
{
    char folder[64], path[96], *data = NULL;
    size_t bytes, at = 0;
    struct augment_scratch scratch = { .square = NULL };
    check_boxes();
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
            check_resize(&scratch.resizer, view, (int)head[3], (int)head[4], expected);
        else
            check_evaluation(&scratch, view, (int)head[3], expected);
        at += 24 + (size_t)head[1] * head[2] * 3 + (size_t)head[3] * head[4] * 3;
    }
    free(data);
    augment_scratch_finish(&scratch);
    remove_folder(folder);
    return check_done("resize");
}
