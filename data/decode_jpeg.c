/* decode_jpeg.c - JPEG through libjpeg-turbo: grey and YCbCr to RGB by the library, CMYK as Pillow does,
 * which takes every four-channel JPEG for Adobe's inverted one. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <stdlib.h>

#include "data/decode.h"
#include "data/pack.h"

enum { SCANS = 500 }; /* of a progressive file; more are an attack on the reader's time */

/* All state lives here, so that nothing is lost in a longjmp. */
struct jpeg {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
    const char *name;
    struct image *image;
    uint8_t *row; /* of CMYK */
    enum status status;
};

static void on_error(j_common_ptr common)
{
    struct jpeg *j = common->client_data;
    common->err->format_message(common, j->message);
    longjmp(j->back, 1);
}

/* Warnings pass, as in Pillow, but for data that end too early. */
static void on_message(j_common_ptr common, int level)
{
    if (level < 0 && common->err->msg_code == JWRN_JPEG_EOF)
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

/* Inverted CMYK to RGB: (width, 4) -> (width, 3). */
static void cmyk_to_rgb(const uint8_t *in, int width, uint8_t *out)
{
    for (int x = 0; x < width; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++)
            out[c] = (uint8_t)(in[3] - scale255(255 - in[c], in[3]));
}

/* Between setjmp and longjmp. */
static enum status read_pixels(struct jpeg *j, const uint8_t *data, size_t bytes, unsigned *notes)
{
    enum status status = STATUS_OK;
    jpeg_mem_src(&j->info, data, bytes);
    jpeg_read_header(&j->info, TRUE);
    TRY(decode_check_size(j->name, j->info.image_width, j->info.image_height));
    bool cmyk = j->info.num_components == 4;
    j->info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    *notes |= (unsigned)cmyk << NOTE_CMYK | (unsigned)(j->info.num_components == 1) << NOTE_GREY;
    jpeg_start_decompress(&j->info);
    int width = (int)j->info.output_width, height = (int)j->info.output_height;
    TRY(image_resize_buffer(j->image, width, height));
    if (cmyk) {
        j->row = malloc((size_t)width * 4);
        if (!j->row)
            FAIL(STATUS_NOMEM, "%s: out of memory", j->name);
    }
    while (j->info.output_scanline < j->info.output_height) {
        uint8_t *out = j->image->pixels + (size_t)j->info.output_scanline * width * 3;
        uint8_t *row = cmyk ? j->row : out;
        jpeg_read_scanlines(&j->info, &row, 1);
        if (cmyk)
            cmyk_to_rgb(row, width, out);
    }
fail:
    return status;
}

enum status decode_jpeg(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes)
{
    enum status status = STATUS_OK;
    struct jpeg *j = calloc(1, sizeof *j);
    if (!j)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "%s: out of memory", name);
    j->name = name;
    j->image = image;
    j->info.err = jpeg_std_error(&j->errors);
    j->info.client_data = j;
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    if (setjmp(j->back) == 0) {
        jpeg_create_decompress(&j->info);
        j->progress.progress_monitor = on_progress;
        j->info.progress = &j->progress;
        j->status = read_pixels(j, data, bytes, notes);
    } else {
        j->status = status_report(STATUS_DATA, __FILE__, __LINE__, "%s: JPEG: %s", name, j->message);
    }
    status = j->status;
    jpeg_destroy_decompress(&j->info);
    free(j->row);
    free(j);
    return status;
}
