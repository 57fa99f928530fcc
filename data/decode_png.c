/* decode_png.c - PNG through libpng. Deep colour keeps its high bytes and transparency is dropped, as in
 * Pillow; 16-bit grey is clipped at 255, as in Pillow. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "data/decode.h"
#include "data/format.h"
#include "data/pack.h"

/* All state lives here, so that nothing is lost in a longjmp. */
struct png {
    png_structp png;
    png_infop info;
    jmp_buf back;
    char message[160];
    const char *name;
    struct image *image;
    const uint8_t *data;
    size_t left;
    uint8_t *wide;   /* (height, width) of 16-bit grey */
    png_bytep *rows; /* (height) */
    enum status status;
};

static void on_error(png_structp png, const char *text)
{
    struct png *p = png_get_error_ptr(png);
    snprintf(p->message, sizeof p->message, "%s", text);
    longjmp(p->back, 1);
}

static void on_warning(png_structp png, const char *text)
{
    (void)png;
    (void)text;
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

/* Asks libpng for 8-bit RGB; 16-bit grey stays as it is. */
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
    png_set_strip_alpha(p->png); /* after expansion, which makes alpha of a palette's transparency */
    if (grey)
        png_set_gray_to_rgb(p->png);
    return false;
}

static void clip_grey(const uint8_t *wide, size_t pixels, uint8_t *out)
{
    for (size_t i = 0; i < pixels; i++, wide += 2, out += 3)
        memset(out, wide[0] ? 255 : wide[1], 3); /* big-endian */
}

/* Between setjmp and longjmp. */
static enum status read_pixels(struct png *p, unsigned *notes)
{
    enum status status = STATUS_OK;
    png_set_read_fn(p->png, p, on_read);
    png_set_user_limits(p->png, LIMIT_SIDE, LIMIT_SIDE);
    png_read_info(p->png, p->info);
    int width = (int)png_get_image_width(p->png, p->info), height = (int)png_get_image_height(p->png, p->info);
    TRY(decode_check_size(p->name, width, height));
    bool wide = set_transforms(p, notes);
    png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);
    size_t row_bytes = (size_t)width * (wide ? 2 : 3);
    if (png_get_rowbytes(p->png, p->info) != row_bytes)
        FAIL(STATUS_DATA, "%s: PNG: rows of %zu bytes for %d pixels", p->name, png_get_rowbytes(p->png, p->info), width);
    TRY(image_resize_buffer(p->image, width, height));
    p->rows = malloc((size_t)height * sizeof *p->rows);
    p->wide = wide ? malloc(row_bytes * height) : NULL;
    if (!p->rows || (wide && !p->wide))
        FAIL(STATUS_NOMEM, "%s: out of memory", p->name);
    for (int y = 0; y < height; y++)
        p->rows[y] = (wide ? p->wide : p->image->pixels) + y * row_bytes;
    png_read_image(p->png, p->rows);
    if (wide)
        clip_grey(p->wide, (size_t)width * height, p->image->pixels);
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
        p->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, p, on_error, on_warning);
        p->info = p->png ? png_create_info_struct(p->png) : NULL;
        p->status = p->info ? read_pixels(p, notes)
                            : status_report(STATUS_NOMEM, __FILE__, __LINE__, "%s: out of memory", name);
    } else {
        p->status = status_report(STATUS_DATA, __FILE__, __LINE__, "%s: PNG: %s", name, p->message);
    }
    status = p->status;
    png_destroy_read_struct(&p->png, &p->info, NULL);
    free(p->wide);
    free(p->rows);
    free(p);
fail:
    return status;
}
