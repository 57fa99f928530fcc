/* encode_jpeg.c - JPEG through libjpeg-turbo, with the accurate DCT and Huffman tables made for the image. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "data/encode_jpeg.h"

/* All state lives here, so that nothing is lost in a longjmp. */
struct encoder {
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
    unsigned char *memory;
    unsigned long bytes;
};

static void on_error(j_common_ptr common)
{
    struct encoder *e = common->client_data;
    common->err->format_message(common, e->message);
    longjmp(e->back, 1);
}

/* Between setjmp and longjmp. */
static void write_image(struct encoder *e, const struct image *image)
{
    jpeg_create_compress(&e->info);
    jpeg_mem_dest(&e->info, &e->memory, &e->bytes);
    e->info.image_width = (JDIMENSION)image->width;
    e->info.image_height = (JDIMENSION)image->height;
    e->info.input_components = 3;
    e->info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&e->info);
    jpeg_set_quality(&e->info, ENCODE_QUALITY, TRUE);
    e->info.dct_method = JDCT_ISLOW;
    e->info.optimize_coding = TRUE;
    jpeg_start_compress(&e->info, TRUE);
    while (e->info.next_scanline < e->info.image_height) {
        JSAMPROW row = image->pixels + (size_t)e->info.next_scanline * image->width * 3;
        jpeg_write_scanlines(&e->info, &row, 1);
    }
    jpeg_finish_compress(&e->info);
}

enum status encode_jpeg(const struct image *image, const char *name, uint8_t **data, size_t *capacity, size_t *bytes)
{
    enum status status = STATUS_OK;
    struct encoder *e = calloc(1, sizeof *e);
    if (!e)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    e->info.err = jpeg_std_error(&e->errors);
    e->info.client_data = e;
    e->errors.error_exit = on_error;
    if (setjmp(e->back) != 0)
        FAIL(STATUS_BUG, "%s: JPEG: %s", name, e->message);
    write_image(e, image);
    TRY(buffer_grow(data, capacity, e->bytes));
    memcpy(*data, e->memory, e->bytes);
    *bytes = e->bytes;
fail:
    if (e) {
        jpeg_destroy_compress(&e->info);
        free(e->memory);
    }
    free(e);
    return status;
}
