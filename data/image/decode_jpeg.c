/* decode_jpeg.c - decodes JPEG with libjpeg-turbo. The library converts grey and YCbCr to RGB. CMYK is converted as
 * Pillow does it, which takes every four-channel JPEG for Adobe's inverted one. For a window the library skips the rows
 * above it and the columns beside it. Its smooth upsampling of colour reads neighbouring pixels, so a margin is decoded
 * on every side and dropped; the window then equals that part of the whole image. Where scans of a progressive file are
 * missing, the library estimates coefficients from the blocks around; such a file is decoded whole. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <stdlib.h>

#include "data/image/decode.h"

enum {
    SCANS = 500, /* of a progressive file; a file with more is made to waste time */
    MARGIN = 2,  /* pixels decoded around a window, which upsampling may read */
};

/* The whole state is in memory, so that a longjmp loses none of it. */
struct jpeg {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
    const char *name;
    struct image *image;
    const struct jpeg_window *window; /* NULL: the whole image */
    uint8_t *row;                     /* one row of CMYK */
    bool complete, ended;             /* all rows have been read; the data end before the end marker */
    enum status status;
};

static void on_error(j_common_ptr common)
{
    struct jpeg *j = common->client_data;
    common->err->format_message(common, j->message);
    longjmp(j->back, 1);
}

/* Ignores warnings, as Pillow does, except that data must not end before the last row. */
static void on_message(j_common_ptr common, int level)
{
    struct jpeg *j = common->client_data;
    if (level >= 0 || common->err->msg_code != JWRN_JPEG_EOF)
        return;
    j->ended = true;
    on_error(common);
}

static void on_progress(j_common_ptr common)
{
    struct jpeg *j = common->client_data;
    if (j->info.input_scan_number <= SCANS)
        return;
    snprintf(j->message, sizeof j->message, "more than %d scans", SCANS);
    longjmp(j->back, 1);
}

/* a * b / 255, rounded as Pillow rounds it. */
static int scale255(int a, int b)
{
    int product = a * b + 128;
    return ((product >> 8) + product) >> 8;
}

/* Converts inverted CMYK (width, 4) to RGB (width, 3). */
static void cmyk_to_rgb(const uint8_t *in, int width, uint8_t *out)
{
    for (int x = 0; x < width; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++)
            out[c] = (uint8_t)(in[3] - scale255(255 - in[c], in[3]));
}

/* Reads columns [0, width) of the next `count` rows to `out`; if it is NULL, drops them. */
static void read_rows(struct jpeg *j, int width, int count, bool cmyk, uint8_t *out)
{
    for (int y = 0; y < count; y++) {
        uint8_t *to = out ? out + (size_t)y * width * 3 : j->image->pixels;
        uint8_t *row = cmyk ? j->row : to;
        jpeg_read_scanlines(&j->info, &row, 1);
        if (cmyk && out)
            cmyk_to_rgb(row, width, to);
    }
}

/* The window's box at the scale of the decoder, and the column and row to begin with. */
static struct box scaled_box(const struct jpeg *j, int *first_column, int *first_row)
{
    int shrink = j->window->shrink, width = (int)j->info.output_width, height = (int)j->info.output_height;
    struct box b = j->window->box;
    int right = (b.x + b.width + shrink - 1) / shrink, bottom = (b.y + b.height + shrink - 1) / shrink;
    b.x /= shrink;
    b.y /= shrink;
    b.width = (right > width ? width : right) - b.x;
    b.height = (bottom > height ? height : bottom) - b.y;
    *first_column = b.x > MARGIN ? b.x - MARGIN : 0;
    *first_row = b.y > MARGIN ? b.y - MARGIN : 0;
    return b;
}

/* Whether scans of a progressive file are missing, so that the library estimates coefficients. */
static bool lacks_scans(const struct jpeg *j)
{
    if (!j->info.progressive_mode || !j->info.coef_bits)
        return false;
    for (int c = 0; c < j->info.num_components; c++)
        for (int k = 1; k < DCTSIZE2; k++)
            if (j->info.coef_bits[c][k] != 0)
                return true;
    return false;
}

/* Reads a window after jpeg_start_decompress. The image gets all columns that were decoded; *view is the window. */
static enum status read_window(struct jpeg *j, bool cmyk, struct view *view)
{
    enum status status = STATUS_OK;
    int column, row, all_columns = (int)j->info.output_width, all_rows = (int)j->info.output_height;
    struct box b = scaled_box(j, &column, &row);
    if (lacks_scans(j)) {
        TRY(image_allocate(j->image, all_columns, all_rows));
        read_rows(j, all_columns, all_rows, cmyk, j->image->pixels);
        *view = view_crop(view_image(j->image), b.x, b.y, b.width, b.height);
        return STATUS_OK;
    }
    int end = b.x + b.width + MARGIN;
    JDIMENSION x = (JDIMENSION)column;
    JDIMENSION width = (JDIMENSION)((end < all_columns ? end : all_columns) - column);
    jpeg_crop_scanline(&j->info, &x, &width);
    TRY(image_allocate(j->image, (int)width, b.height));
    if (row)
        jpeg_skip_scanlines(&j->info, (JDIMENSION)row);
    read_rows(j, (int)width, b.y - row, cmyk, NULL);
    read_rows(j, (int)width, b.height, cmyk, j->image->pixels);
    *view = view_crop(view_image(j->image), b.x - (int)x, 0, b.width, b.height);
fail:
    return status;
}

/* Runs under setjmp: an error of the library leaves it by a longjmp. */
static enum status read_pixels(struct jpeg *j, const uint8_t *data, size_t bytes, unsigned *notes, struct view *view)
{
    enum status status = STATUS_OK;
    const struct jpeg_window *w = j->window;
    jpeg_mem_src(&j->info, data, bytes);
    jpeg_read_header(&j->info, TRUE);
    TRY(decode_check_size(j->name, j->info.image_width, j->info.image_height));
    if (w && ((int)j->info.image_width != w->width || (int)j->info.image_height != w->height))
        FAIL(STATUS_DATA, "%s: JPEG of %u x %u pixels, but its record says %d x %d", j->name, j->info.image_width,
             j->info.image_height, w->width, w->height);
    bool cmyk = j->info.num_components == 4;
    j->info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    *notes |= (unsigned)cmyk << NOTE_CMYK | (unsigned)(j->info.num_components == 1) << NOTE_GREY;
    j->info.scale_num = 1;
    j->info.scale_denom = w ? (unsigned)w->shrink : 1;
    jpeg_start_decompress(&j->info);
    int width = (int)j->info.output_width, height = (int)j->info.output_height;
    if (cmyk) {
        j->row = malloc((size_t)width * 4);
        if (!j->row)
            FAIL(STATUS_NOMEM, "%s: out of memory", j->name);
    }
    if (w)
        return read_window(j, cmyk, view);
    TRY(image_allocate(j->image, width, height));
    read_rows(j, width, height, cmyk, j->image->pixels);
    j->complete = true; /* as in Pillow, the end marker may be missing, but data after the rows must be valid */
    jpeg_finish_decompress(&j->info);
fail:
    return status;
}

static enum status decode(const uint8_t *data, size_t bytes, const char *name, const struct jpeg_window *window,
                          struct image *image, unsigned *notes, struct view *view)
{
    enum status status = STATUS_OK;
    struct jpeg *j = calloc(1, sizeof *j);
    if (!j)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "%s: out of memory", name);
    j->name = name;
    j->image = image;
    j->window = window;
    j->info.err = jpeg_std_error(&j->errors);
    j->info.client_data = j;
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    if (setjmp(j->back) == 0) {
        jpeg_create_decompress(&j->info);
        j->progress.progress_monitor = on_progress;
        j->info.progress = &j->progress;
        j->status = read_pixels(j, data, bytes, notes, view);
    } else if (!j->complete || !j->ended) {
        bool memory = j->errors.msg_code == JERR_OUT_OF_MEMORY;
        j->status = status_report(memory ? STATUS_NOMEM : STATUS_DATA, __FILE__, __LINE__, "%s: JPEG: %s", name,
                                  j->message);
    }
    status = j->status;
    jpeg_destroy_decompress(&j->info);
    free(j->row);
    free(j);
    return status;
}

enum status decode_jpeg(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes)
{
    return decode(data, bytes, name, NULL, image, notes, NULL);
}

enum status decode_jpeg_window(const uint8_t *data, size_t bytes, const char *name, const struct jpeg_window *window,
                               struct image *image, struct view *view)
{
    unsigned notes = 0;
    return decode(data, bytes, name, window, image, &notes, view);
}
