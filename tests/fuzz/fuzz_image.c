/* fuzz_image.c - decodes any bytes as a JPEG, PNG or WebP: the result is an image within the limits or STATUS_DATA. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#ifdef CSC_WEBP
#include <webp/encode.h>
#endif

#include "base/hash.h"
#include "data/format/format.h"
#include "data/image/decode.h"
#include "data/image/exif.h"
#include "tests/fuzz/fuzz.h"

enum { WIDTH = 11, HEIGHT = 9 };

static const uint8_t *pixels(void)
{
    static uint8_t values[HEIGHT * WIDTH * 4];
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = (uint8_t)(i * i / 3);
    return values;
}

static size_t write_jpeg(unsigned char *out, size_t capacity, int channels, J_COLOR_SPACE space, bool progressive)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *memory = NULL;
    unsigned long bytes = 0;
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &memory, &bytes);
    info.image_width = WIDTH;
    info.image_height = HEIGHT;
    info.input_components = channels;
    info.in_color_space = space;
    jpeg_set_defaults(&info);
    if (progressive)
        jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < HEIGHT; y++) {
        JSAMPROW row = (JSAMPROW)pixels() + y * WIDTH * channels;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    size_t length = bytes <= capacity ? bytes : 0;
    memcpy(out, memory, length);
    free(memory);
    return length;
}

static size_t write_png(unsigned char *out, size_t capacity, png_uint_32 format)
{
    png_image image = { .version = PNG_IMAGE_VERSION, .width = WIDTH, .height = HEIGHT, .format = format };
    static uint8_t wide[HEIGHT * WIDTH * 8];
    png_color map[256];
    memcpy(wide, pixels(), HEIGHT * WIDTH * 4);
    memset(map, 7, sizeof map);
    image.colormap_entries = format & PNG_FORMAT_FLAG_COLORMAP ? 256 : 0;
    png_alloc_size_t bytes = capacity;
    return png_image_write_to_memory(&image, out, &bytes, 0, wide, 0, map) ? bytes : 0;
}

#ifdef CSC_WEBP
static size_t write_webp(unsigned char *out, size_t capacity, bool alpha, bool lossless)
{
    uint8_t *memory = NULL;
    size_t bytes = alpha && lossless ? WebPEncodeLosslessRGBA(pixels(), WIDTH, HEIGHT, WIDTH * 4, &memory)
                   : alpha           ? WebPEncodeRGBA(pixels(), WIDTH, HEIGHT, WIDTH * 4, 70, &memory)
                   : lossless        ? WebPEncodeLosslessRGB(pixels(), WIDTH, HEIGHT, WIDTH * 3, &memory)
                                     : WebPEncodeRGB(pixels(), WIDTH, HEIGHT, WIDTH * 3, 70, &memory);
    bytes = bytes <= capacity ? bytes : 0;
    memcpy(out, memory, bytes);
    WebPFree(memory);
    return bytes;
}
#endif

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    switch (index) {
    case 0: return write_jpeg(out, capacity, 3, JCS_RGB, false);
    case 1: return write_jpeg(out, capacity, 3, JCS_RGB, true);
    case 2: return write_jpeg(out, capacity, 4, JCS_CMYK, false);
    case 3: return write_jpeg(out, capacity, 1, JCS_GRAYSCALE, false);
    case 4: return write_png(out, capacity, PNG_FORMAT_RGB);
    case 5: return write_png(out, capacity, PNG_FORMAT_RGBA);
    case 6: return write_png(out, capacity, PNG_FORMAT_RGB_COLORMAP);
    case 7: return write_png(out, capacity, PNG_FORMAT_LINEAR_Y);
    case 8: return write_png(out, capacity, PNG_FORMAT_LINEAR_RGB_ALPHA);
#ifdef CSC_WEBP
    case 9: return write_webp(out, capacity, false, false);
    case 10: return write_webp(out, capacity, true, false);
    case 11: return write_webp(out, capacity, false, true);
    case 12: return write_webp(out, capacity, true, true);
#endif
    default: return 0;
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct image image = { 0 };
    unsigned notes = 0;
    exif_is_rotated(data, size);
    enum status status = decode_image(data, size, "fuzz", &image, &notes);
    if (status != STATUS_OK && status != STATUS_DATA && status != STATUS_NOMEM)
        abort();
    if (status == STATUS_OK) {
        if (image.width < 1 || image.height < 1 || image.width > LIMIT_SIDE || image.height > LIMIT_SIDE)
            abort();
        hash_bytes(image.pixels, (size_t)image.width * image.height * 3);
    }
    image_finish(&image);
    return 0;
}
