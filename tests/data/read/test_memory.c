/* test_memory.c - if a library runs out of memory, the status says so and never calls the image damaged; otherwise a
 * packing with --bad skip would leave out good images. Each step runs in a process of its own with little memory, and
 * must end in the result or in STATUS_NOMEM. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <malloc.h>
#include <png.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef CSC_WEBP
#include <webp/encode.h>
#endif
#include <zstd.h>

#include "data/format/block.h"
#include "data/image/decode.h"
#include "data/image/encode_jpeg.h"
#include "tests/check.h"

enum { SIDE = 1200, STEPS = 40, STEP = 300 << 10, OTHER = 99 };

static struct image picture;
static uint8_t *file;
static size_t file_bytes, file_capacity;

static void make_picture(void)
{
    CHECK(image_allocate(&picture, SIDE, SIDE) == STATUS_OK, "%s", status_message());
    for (size_t i = 0; i < (size_t)SIDE * SIDE * 3; i++)
        picture.pixels[i] = (uint8_t)(i * i / 1001 + i / 7);
}

static void make_progressive(void)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned long bytes = 0;
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &file, &bytes);
    info.image_width = info.image_height = SIDE;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    for (size_t y = 0; y < SIDE; y++) {
        JSAMPROW row = picture.pixels + y * SIDE * 3;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    file_bytes = bytes;
}

static void make_png(void)
{
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = SIDE * SIDE / 24, .height = 24, .format = PNG_FORMAT_RGB
    };
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    file = malloc(bytes);
    CHECK(png_image_write_to_memory(&image, file, &bytes, 0, picture.pixels, 0, NULL), "%s", image.message);
    file_bytes = bytes;
}

#ifdef CSC_WEBP
static void make_webp(void)
{
    file_bytes = WebPEncodeRGB(picture.pixels, SIDE, SIDE, SIDE * 3, 70, &file);
    CHECK(file_bytes > 0, "no WebP");
}
#endif

static enum status decode_file(void)
{
    unsigned notes = 0;
    return decode_image(file, file_bytes, "picture", &picture, &notes);
}

static enum status encode_file(void)
{
    return encode_jpeg(&picture, ENCODE_QUALITY, "picture", &file, &file_capacity, &file_bytes);
}

/* There is memory for the result, but not for the compressor itself. */
static ZSTD_CCtx *zstd;
static uint8_t *raw, *out;
static size_t raw_bytes, bound;

static void make_record(void)
{
    struct record_input input = { 0, SIDE, SIDE, picture.pixels, NULL, 0 };
    raw_bytes = record_bytes(CODEC_RGBZ, &input);
    raw = malloc(raw_bytes);
    record_write(raw, CODEC_RGBZ, &input);
    bound = block_bound(CODEC_RGBZ, raw, raw_bytes, 1);
    out = malloc(bound);
    zstd = ZSTD_createCCtx();
}

static enum status compress_record(void)
{
    size_t written;
    return block_compress(zstd, CODEC_RGBZ, raw, raw_bytes, 1, out, bound, &written);
}

/* Runs a step in a process that may allocate `extra_bytes` more bytes. Returns its exit code. */
static int run_with(enum status (*act)(void), size_t extra_bytes)
{
    int how = 0;
    pid_t child = fork();
    if (child == 0) {
        long pages = 0;
        malloc_trim(0);
        FILE *statm = fopen("/proc/self/statm", "r");
        if (!statm || fscanf(statm, "%ld", &pages) != 1)
            _exit(OTHER);
        fclose(statm);
        rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + extra_bytes;
        if (setrlimit(RLIMIT_AS, &(struct rlimit){ bytes, bytes }) != 0)
            _exit(OTHER);
        _exit(act());
    }
    return child > 0 && waitpid(child, &how, 0) == child && WIFEXITED(how) ? WEXITSTATUS(how) : OTHER;
}

static void check_steps(const char *what, void (*prepare)(void), enum status (*act)(void))
{
    int count[2] = { 0, 0 };
    make_picture();
    if (prepare)
        prepare();
    for (int i = 0; i < STEPS; i++) {
        int code = run_with(act, (size_t)i * STEP);
        CHECK(code == STATUS_OK || code == STATUS_NOMEM, "%s with %d KB: %d", what, i * STEP >> 10, code);
        count[code == STATUS_NOMEM]++;
    }
    CHECK(count[0] && count[1], "%s: %d times done, %d times out of memory", what, count[0], count[1]);
    free(file);
    file = NULL;
    file_capacity = 0;
    image_finish(&picture);
}

/* A damaged length is not reported as lack of memory. */
static void check_stated_length(void)
{
    make_picture();
    make_png();
    memcpy(file + 33, "\x35\0\0\0tEXt", 8); /* the length of the first chunk after the header: 889 MB */
    int code = run_with(decode_file, 100 << 20);
    CHECK(code == STATUS_DATA, "a PNG's chunk of 889 MB: %d", code);
    free(file);
    file = NULL;
    image_finish(&picture);
}

int main(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    return check_skip("a sanitizer needs more memory than this leaves");
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return check_skip("a sanitizer needs more memory than this leaves");
#endif
#endif
    mallopt(M_MMAP_THRESHOLD, 64 << 10); /* freed memory returns to the system */
    check_steps("JPEG", make_progressive, decode_file);
    check_steps("PNG", make_png, decode_file);
#ifdef CSC_WEBP
    check_steps("WebP", make_webp, decode_file);
#endif
    check_steps("encoding", NULL, encode_file);
    check_stated_length();
    check_steps("zstd", make_record, compress_record);
    ZSTD_freeCCtx(zstd);
    free(raw);
    free(out);
    return check_done("memory");
}
