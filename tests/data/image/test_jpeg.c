/* test_jpeg.c [SHARED] - a window of a JPEG equals that part of the whole image bit for bit. Tested on generated images
 * of every sampling, and on the photographs in SHARED/data if they are there. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <string.h>
#include <zstd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "data/format/block.h"
#include "data/image/decode.h"
#include "tests/check.h"

static struct philox draws;

struct kind {
    int channels, h, v; /* sampling factors of the first channel; the others have 1 */
    bool progressive;
    int restart, quality;
};

static unsigned char *make_jpeg(int width, int height, const struct kind *k, unsigned long *bytes)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *memory = NULL, *line = malloc((size_t)width * k->channels);
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &memory, bytes);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = k->channels;
    info.in_color_space = k->channels == 1 ? JCS_GRAYSCALE : k->channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, k->quality, TRUE);
    info.comp_info[0].h_samp_factor = k->h;
    info.comp_info[0].v_samp_factor = k->v;
    info.restart_interval = (unsigned)k->restart;
    if (k->progressive)
        jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < height; y++) {
        for (int i = 0; i < width * k->channels; i++) /* smooth and rough parts, different in each channel */
            line[i] = (unsigned char)(philox_below(&draws, 4)
                                          ? 128 + 100 * sin(.05 * y * (i % k->channels + 1) + .03 * i)
                                          : philox_u32(&draws));
        JSAMPROW row = line;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    free(line);
    return memory;
}

static int between(int low, int high)
{
    return low + (int)philox_below(&draws, (uint32_t)(high - low + 1));
}

static void check_window(const uint8_t *file, size_t bytes, const struct image *whole, struct box box, const char *name)
{
    struct image image = { 0 };
    struct view view = { NULL, 0, 0, 0 };
    struct jpeg_window window = { whole->width, whole->height, box, 1 };
    int wrong = 0;
    CHECK(decode_jpeg_window(file, bytes, name, &window, &image, &view) == STATUS_OK, "%s", status_message());
    CHECK(view.width == box.width && view.height == box.height, "%s: %d x %d", name, view.width, view.height);
    for (int y = 0; view.pixels && y < box.height; y++)
        wrong += memcmp(view.pixels + y * view.stride, whole->pixels + ((size_t)(box.y + y) * whole->width + box.x) * 3,
                        (size_t)box.width * 3) != 0;
    CHECK(wrong == 0, "%s, %d x %d: %d rows of %d x %d at %d, %d differ", name, whole->width, whole->height, wrong,
          box.width, box.height, box.x, box.y);
    image_finish(&image);
}

/* At a fraction of the size a window has the right number of pixels, with about the right mean. */
static void check_shrunk(const uint8_t *file, size_t bytes, const struct image *whole, int shrink)
{
    struct image image = { 0 };
    struct view view = { NULL, 0, 0, 0 };
    struct box box = { whole->width / 5, whole->height / 7, whole->width / 2 + 1, whole->height / 2 + 1 };
    struct jpeg_window window = { whole->width, whole->height, box, shrink };
    CHECK(decode_jpeg_window(file, bytes, "shrunk", &window, &image, &view) == STATUS_OK, "%s", status_message());
    int right = (box.x + box.width + shrink - 1) / shrink, bottom = (box.y + box.height + shrink - 1) / shrink;
    CHECK(view.width == right - box.x / shrink && view.height == bottom - box.y / shrink, "%d x %d", view.width,
          view.height);
    double sums[2] = { 0, 0 };
    for (int y = 0; view.pixels && y < view.height; y++)
        for (int x = 0; x < view.width * 3; x++)
            sums[0] += view.pixels[y * view.stride + x];
    int left = box.x / shrink * shrink, top = box.y / shrink * shrink, count = 0;
    for (int y = top; y < bottom * shrink && y < whole->height; y++)
        for (int x = left * 3; x < right * shrink * 3 && x < whole->width * 3; x++, count++)
            sums[1] += whole->pixels[(size_t)y * whole->width * 3 + x];
    double mean = sums[0] / (view.width * view.height * 3.0), expected = sums[1] / count;
    CHECK(fabs(mean - expected) < 4, "at 1/%d: mean %g, not %g", shrink, mean, expected);
    image_finish(&image);
}

/* Tests random windows and some at corners and edges. */
static void check_file(const uint8_t *file, size_t bytes, int windows, const char *name)
{
    struct image whole = { 0 };
    unsigned notes = 0;
    CHECK(decode_jpeg(file, bytes, name, &whole, &notes) == STATUS_OK, "%s", status_message());
    int w = whole.width, h = whole.height;
    if (!w)
        return;
    struct box fixed[] = {
        { 0, 0, w, h }, { 0, 0, 1, 1 }, { w - 1, h - 1, 1, 1 }, { w / 2, 0, w - w / 2, 1 }, { 0, h / 2, w, 1 }
    };
    for (int i = 0; i < 5; i++)
        check_window(file, bytes, &whole, fixed[i], name);
    for (int i = 0; i < windows; i++) {
        struct box b = { between(0, w - 1), between(0, h - 1), 0, 0 };
        b.width = between(1, w - b.x);
        b.height = between(1, h - b.y);
        check_window(file, bytes, &whole, b, name);
    }
    struct jpeg_window other = { w + 1, h, { 0, 0, 1, 1 }, 1 };
    struct view view;
    CHECK(decode_jpeg_window(file, bytes, name, &other, &(struct image){ 0 }, &view) == STATUS_DATA,
          "another size passes");
    CHECK(strstr(status_message(), "but its record says"), "%s", status_message());
    for (int shrink = 2; shrink <= 8 && w >= 64 && h >= 64; shrink *= 2)
        check_shrunk(file, bytes, &whole, shrink);
    image_finish(&whole);
}

static void check_made(void)
{
    static const struct kind kinds[] = {
        { 3, 2, 2, false, 0, 85 }, { 3, 2, 1, false, 0, 75 }, { 3, 1, 2, false, 0, 90 }, { 3, 1, 1, false, 0, 95 },
        { 3, 4, 1, false, 0, 80 }, { 3, 4, 2, false, 0, 60 }, { 3, 1, 4, false, 0, 60 }, { 3, 2, 2, true, 0, 85 },
        { 3, 2, 1, true, 0, 50 },  { 3, 2, 2, false, 3, 85 }, { 1, 1, 1, false, 0, 85 }, { 1, 2, 2, true, 0, 85 },
        { 4, 1, 1, false, 0, 85 }, { 4, 2, 2, false, 0, 85 }, { 4, 2, 2, true, 5, 70 },
    };
    static const int sizes[][2] = { { 1, 1 }, { 17, 3 }, { 33, 64 }, { 200, 131 }, { 160, 208 }, { 97, 250 } };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            char name[64];
            unsigned long bytes = 0;
            unsigned char *file = make_jpeg(sizes[s][0], sizes[s][1], &kinds[k], &bytes);
            snprintf(name, sizeof name, "kind %zu, size %zu", k, s);
            check_file(file, bytes, 25, name);
            free(file);
        }
}

/* The offset of the n-th marker of a kind, or the end of the file. */
static unsigned long find_marker(const unsigned char *file, unsigned long bytes, int kind, int n)
{
    for (unsigned long at = 0; at + 1 < bytes; at++)
        if (file[at] == 0xff && file[at + 1] == kind && --n == 0)
            return at;
    return bytes;
}

/* If scans of a progressive file are missing, the library smooths it, and windows still equal parts of the whole. */
static void check_missing_scans(void)
{
    static const struct kind kinds[] = { { 3, 2, 2, true, 0, 85 }, { 3, 1, 1, true, 0, 60 }, { 1, 1, 1, true, 0, 85 } };
    for (int k = 0; k < 3; k++)
        for (int scans = 1; scans < 6; scans++) {
            char name[64];
            unsigned long bytes = 0;
            unsigned char *file = make_jpeg(200, 150, &kinds[k], &bytes);
            unsigned long end = find_marker(file, bytes, 0xda, scans + 1);
            while (end < bytes && (file[end] != 0xff || file[end + 1] != 0xc4)) /* the tables of the removed scan */
                end--;
            snprintf(name, sizeof name, "kind %d, %d scans", k, scans);
            CHECK(end + 2 < bytes, "%s: no more scans", name);
            memcpy(file + end, "\xff\xd9", 2);
            check_file(file, end + 2, 25, name);
            free(file);
        }
}

/* Reading the whole image from a block finds the fault, so `verify --deep` finds it in a dataset that was packed
 * before. */
static void check_stored(const unsigned char *file, size_t bytes, int width, int height)
{
    struct block block = { 0 };
    struct block_reader reader = { 0 };
    struct record_input input = { 0, width, height, NULL, file, bytes };
    size_t raw_bytes = record_bytes(CODEC_JPEG, &input), frame_bytes = 0;
    uint8_t *raw = malloc(raw_bytes);
    struct view view;
    record_write(raw, CODEC_JPEG, &input);
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    size_t capacity = block_bound(CODEC_JPEG, raw, raw_bytes, 1);
    CHECK(buffer_grow(&reader.compressed, &reader.compressed_capacity, capacity) == STATUS_OK, "%s", status_message());
    CHECK(block_compress(zstd, CODEC_JPEG, raw, raw_bytes, 1, reader.compressed, capacity, &frame_bytes) == STATUS_OK,
          "%s", status_message());
    struct block_info facts = { CODEC_JPEG, frame_bytes, raw_bytes, 1, 1, "shard", 0 };
    CHECK(block_open(&block, &reader, &facts) == STATUS_OK, "%s", status_message());
    CHECK(block_decode_box(&block, 0, (struct box){ 0, 0, width, height }, 1, &reader, &view) == STATUS_DATA,
          "it passes");
    CHECK(strstr(status_message(), "shard: block 0, sample 0: JPEG: Unsupported marker"), "%s", status_message());
    ZSTD_freeCCtx(zstd);
    free(raw);
    block_finish(&block);
    block_reader_finish(&reader);
}

/* A fault after the rows is an error if the library notices it; only the end marker may be missing. */
static void check_ends(void)
{
    static const struct kind kind = { 3, 2, 2, false, 0, 85 };
    struct image image = { 0 };
    unsigned notes = 0;
    unsigned long bytes = 0;
    unsigned char *file = make_jpeg(200, 150, &kind, &bytes), *longer = malloc(bytes + 20);
    unsigned long scan = find_marker(file, bytes, 0xda, 1) + 14, middle = scan + (bytes - scan) / 4;
    memcpy(longer, file, bytes - 2);
    memset(longer + bytes - 2, 0, 20);
    CHECK(decode_jpeg(longer, bytes + 18, "zeros for the end", &image, &notes) == STATUS_OK, "%s", status_message());
    CHECK(decode_jpeg(longer, middle, "cut", &image, &notes) == STATUS_DATA, "a quarter passes for the whole");
    memcpy(longer, file, bytes);
    memcpy(longer + middle, "\xff\xa4", 2);
    CHECK(decode_jpeg(longer, bytes, "stray marker", &image, &notes) == STATUS_DATA,
          "a quarter and grey pass for the whole");
    CHECK(strstr(status_message(), "stray marker: JPEG: Unsupported marker"), "%s", status_message());
    check_stored(longer, bytes, 200, 150);
    image_finish(&image);
    free(longer);
    free(file);
}

/* Tests every JPEG in a tar, whose headers and contents are in units of 512 bytes. */
static void check_photographs(const char *path)
{
    FILE *tar = fopen(path, "rb");
    unsigned char header[512];
    int photographs = 0;
    if (!tar) {
        printf("no photographs at %s\n", path);
        return;
    }
    while (fread(header, 1, sizeof header, tar) == sizeof header && header[0]) {
        size_t bytes = strtoul((char *)header + 124, NULL, 8), padded_bytes = (bytes + 511) / 512 * 512;
        uint8_t *file = malloc(padded_bytes ? padded_bytes : 1);
        if (!file || fread(file, 1, padded_bytes, tar) != padded_bytes)
            break;
        if (decode_is_jpeg(file, bytes)) {
            check_file(file, bytes, 6, (char *)header);
            photographs++;
        }
        free(file);
    }
    fclose(tar);
    CHECK(photographs >= 240, "%d photographs", photographs);
}

int main(int count, char **arguments)
{
    char path[1024];
    philox_init(&draws, 7, PHILOX_DOMAIN_SYNTH, 0);
    if (count > 1) {
        snprintf(path, sizeof path, "%s/data/imagenet-sample/imagenet-sample-240.tar", arguments[1]);
        check_photographs(path);
    }
    check_made();
    check_missing_scans();
    check_ends();
    return check_done("jpeg");
}
