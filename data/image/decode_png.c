/* decode_png.c - decodes PNG with libpng. As in Pillow, 16-bit colour keeps its high bytes, 16-bit grey is clipped at
 * 255, and transparency is dropped. Pixels have two checksums: a CRC for each chunk and zlib's over all of them. One
 * correct checksum suffices, and as in Pillow a file may end right after its last pixel, where both are missing. Chunks
 * before the pixels need a correct CRC. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "data/format/format.h"
#include "data/image/decode.h"

/* The limit of a chunk without pixels, because libpng allocates as much as a damaged file states. */
enum { MAX_CHUNK_BYTES = 64 << 20 };

/* The whole state is in memory, so that a longjmp loses none of it. */
struct png {
    png_structp png;
    png_infop info;
    jmp_buf back;
    char message[160];
    const char *name;
    struct image *image;
    const uint8_t *data;
    size_t left;
    uint8_t *wide;              /* (height, width) of 16-bit grey */
    png_bytep *rows;            /* (height) */
    bool in_pixels;             /* IDAT chunks are being read */
    bool wrong_crc, wrong_zlib; /* of IDAT chunks; zlib's checksum is wrong or its data do not end with the rows */
    bool no_memory;
    enum status status;
};

static png_voidp on_malloc(png_structp png, png_alloc_size_t bytes)
{
    struct png *p = png_get_mem_ptr(png);
    bool allowed = p->in_pixels || bytes <= MAX_CHUNK_BYTES;
    void *memory = allowed ? malloc(bytes) : NULL;
    p->no_memory |= allowed && !memory;
    return memory;
}

static void on_free(png_structp png, png_voidp memory)
{
    (void)png;
    free(memory);
}

static void on_error(png_structp png, const char *text)
{
    struct png *p = png_get_error_ptr(png);
    snprintf(p->message, sizeof p->message, "%s", text);
    longjmp(p->back, 1);
}

static void on_warning(png_structp png, const char *text)
{
    struct png *p = png_get_error_ptr(png);
    if (!p->in_pixels || strstr(text, "Extra compressed data")) /* zlib's checksum was correct then */
        return;
    *(strstr(text, "CRC error") ? &p->wrong_crc : &p->wrong_zlib) = true;
}

/* Whether the last pixel had been read when an error occurred. */
static bool has_all_rows(const struct png *p)
{
    if (!p->in_pixels)
        return false;
    if (png_get_interlace_type(p->png, p->info) != PNG_INTERLACE_NONE)
        return png_get_current_pass_number(p->png) >= PNG_INTERLACE_ADAM7_PASSES;
    return png_get_current_row_number(p->png) >= png_get_image_height(p->png, p->info);
}

static void on_read(png_structp png, png_bytep out, png_size_t bytes)
{
    struct png *p = png_get_io_ptr(png);
    if (bytes > p->left)
        png_error(png, "file ends too early");
    memcpy(out, p->data, bytes);
    p->data += bytes;
    p->left -= bytes;
}

/* If the file ends inside a chunk of pixels, the bytes of the chunk that are there, which libpng then reads in one
 * piece; otherwise 0. */
static size_t cut_bytes(const uint8_t *data, size_t bytes)
{
    for (size_t at = 8, length; at + 8 <= bytes; at += 12 + length) {
        length = png_get_uint_32(data + at);
        if (length + 12 > bytes - at && memcmp(data + at + 4, "IDAT", 4) == 0)
            return length < bytes - at - 8 ? length : bytes - at - 8;
    }
    return 0;
}

/* Asks libpng for 8-bit RGB. 16-bit grey stays as it is; then it returns true. */
static bool set_transforms(struct png *p, unsigned *notes)
{
    int type = png_get_color_type(p->png, p->info), depth = png_get_bit_depth(p->png, p->info);
    bool grey = type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA;
    bool wide_grey = type == PNG_COLOR_TYPE_GRAY && depth == 16;
    bool clear = (type & PNG_COLOR_MASK_ALPHA) || png_get_valid(p->png, p->info, PNG_INFO_tRNS);
    *notes |= (unsigned)(grey && !wide_grey) << NOTE_GREY | (unsigned)wide_grey << NOTE_DEEP_GREY |
              (unsigned)(depth == 16 && !wide_grey) << NOTE_DEEP | (unsigned)clear << NOTE_ALPHA |
              (unsigned)(type == PNG_COLOR_TYPE_PALETTE) << NOTE_PALETTE;
    if (wide_grey)
        return true;
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(p->png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(p->png);
    if (depth == 16)
        png_set_strip_16(p->png);
    png_set_strip_alpha(p->png); /* after the expansion, which makes a palette's transparency an alpha channel */
    if (grey)
        png_set_gray_to_rgb(p->png);
    return false;
}

static void clip_grey(const uint8_t *wide, size_t pixels, uint8_t *out)
{
    for (size_t i = 0; i < pixels; i++, wide += 2, out += 3)
        memset(out, wide[0] ? 255 : wide[1], 3); /* big-endian */
}

/* Runs under setjmp: an error of the library leaves it by a longjmp. */
static enum status read_pixels(struct png *p, unsigned *notes)
{
    enum status status = STATUS_OK;
    png_set_read_fn(p->png, p, on_read);
    png_set_user_limits(p->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);     /* the limits of the format are checked below */
    png_set_option(p->png, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON); /* some files state too small a one */
    png_set_crc_action(p->png, PNG_CRC_DEFAULT, PNG_CRC_ERROR_QUIT);
    size_t cut = cut_bytes(p->data, p->left);
    if (cut)
        png_set_compression_buffer_size(p->png, cut);
    png_read_info(p->png, p->info);
    int width = (int)png_get_image_width(p->png, p->info), height = (int)png_get_image_height(p->png, p->info);
    TRY(decode_check_size(p->name, width, height));
    bool wide = set_transforms(p, notes);
    png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);
    size_t row_bytes = (size_t)width * (wide ? 2 : 3);
    if (png_get_rowbytes(p->png, p->info) != row_bytes)
        FAIL(STATUS_DATA, "%s: PNG: rows of %zu bytes for %d pixels", p->name, png_get_rowbytes(p->png, p->info),
             width);
    TRY(image_allocate(p->image, width, height));
    p->rows = malloc((size_t)height * sizeof *p->rows);
    p->wide = wide ? malloc(row_bytes * height) : NULL;
    if (!p->rows || (wide && !p->wide))
        FAIL(STATUS_NOMEM, "%s: out of memory", p->name);
    for (int y = 0; y < height; y++)
        p->rows[y] = (wide ? p->wide : p->image->pixels) + y * row_bytes;
    png_set_crc_action(p->png, PNG_CRC_WARN_USE, PNG_CRC_NO_CHANGE);
    p->in_pixels = true;
    png_read_image(p->png, p->rows);
fail:
    return status;
}

/* Decides what an error of libpng means. */
static enum status error_status(const struct png *p)
{
    enum status status = STATUS_OK;
    if (p->no_memory)
        FAIL(STATUS_NOMEM, "%s: PNG: out of memory", p->name);
    if (!has_all_rows(p))
        FAIL(STATUS_DATA, "%s: PNG: %s", p->name, p->message);
    if (p->wrong_crc || p->wrong_zlib) /* the other checksum may not have been reached */
        FAIL(STATUS_DATA, "%s: PNG: damaged: no checksum of its pixels is right", p->name);
fail:
    return status;
}

/* Checks the checksums after all rows have been read, and clips 16-bit grey. */
static enum status finish_pixels(const struct png *p)
{
    enum status status = STATUS_OK;
    if (p->wrong_crc && p->wrong_zlib)
        FAIL(STATUS_DATA, "%s: PNG: damaged: no checksum of its pixels is right", p->name);
    if (p->wide)
        clip_grey(p->wide, (size_t)p->image->width * p->image->height, p->image->pixels);
fail:
    return status;
}

enum status decode_png(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes)
{
    enum status status = STATUS_OK;
    struct png *p = calloc(1, sizeof *p);
    if (!p)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    *p = (struct png){ .name = name, .image = image, .data = data, .left = bytes };
    if (setjmp(p->back) == 0) {
        p->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, p, on_error, on_warning, p, on_malloc, on_free);
        p->info = p->png ? png_create_info_struct(p->png) : NULL;
        p->status = p->info ? read_pixels(p, notes)
                            : status_report(STATUS_NOMEM, __FILE__, __LINE__, "%s: out of memory", name);
    } else {
        p->status = error_status(p);
    }
    status = p->status == STATUS_OK ? finish_pixels(p) : p->status;
    png_destroy_read_struct(&p->png, &p->info, NULL);
    free(p->wide);
    free(p->rows);
    free(p);
fail:
    return status;
}
