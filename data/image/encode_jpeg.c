/* encode_jpeg.c - encodes JPEG with libjpeg-turbo, with the accurate DCT and Huffman tables for the image. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>

#include "data/image/encode_jpeg.h"

#include "base/memory.h"

enum { FIRST_BYTES = 64 << 10 }; /* first size of the buffer */

/* The whole state is in memory, so that a longjmp loses none of it. */
struct encoder {
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr to;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
    uint8_t **data;
    size_t *capacity, bytes; /* `bytes` is set at the end */
};

static void on_error(j_common_ptr common)
{
    struct encoder *e = common->client_data;
    common->err->format_message(common, e->message);
    longjmp(e->back, 1);
}

static void on_begin(j_compress_ptr info)
{
    struct encoder *e = info->client_data;
    e->to.next_output_byte = *e->data;
    e->to.free_in_buffer = *e->capacity;
}

/* Grows the full buffer. The destination that libjpeg has would lose it if there is no memory for a larger one. */
static boolean on_full(j_compress_ptr info)
{
    struct encoder *e = info->client_data;
    size_t used = *e->capacity;
    uint8_t *grown = realloc(*e->data, 2 * used);
    if (!grown)
        ERREXIT1(info, JERR_OUT_OF_MEMORY, 0);
    *e->data = grown;
    *e->capacity = 2 * used;
    e->to.next_output_byte = grown + used;
    e->to.free_in_buffer = used;
    return TRUE;
}

static void on_end(j_compress_ptr info)
{
    struct encoder *e = info->client_data;
    e->bytes = *e->capacity - e->to.free_in_buffer;
}

/* Returns false if it fails, with the reason in e->message. */
static bool write_image(struct encoder *e, const struct image *image, int quality)
{
    e->info.err = jpeg_std_error(&e->errors);
    e->info.client_data = e;
    e->errors.error_exit = on_error;
    if (setjmp(e->back) != 0)
        return false;
    jpeg_create_compress(&e->info);
    e->info.dest = &e->to;
    e->info.image_width = (JDIMENSION)image->width;
    e->info.image_height = (JDIMENSION)image->height;
    e->info.input_components = 3;
    e->info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&e->info);
    jpeg_set_quality(&e->info, quality, TRUE);
    e->info.dct_method = JDCT_ISLOW;
    e->info.optimize_coding = TRUE;
    jpeg_start_compress(&e->info, TRUE);
    while (e->info.next_scanline < e->info.image_height) {
        JSAMPROW row = image->pixels + (size_t)e->info.next_scanline * image->width * 3;
        jpeg_write_scanlines(&e->info, &row, 1);
    }
    jpeg_finish_compress(&e->info);
    return true;
}

enum status encode_jpeg(const struct image *image, int quality, const char *name, uint8_t **data, size_t *capacity,
                        size_t *bytes)
{
    enum status status = STATUS_OK;
    struct encoder *e = calloc(1, sizeof *e);
    if (!e)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    TRY(buffer_grow(data, capacity, FIRST_BYTES));
    e->data = data;
    e->capacity = capacity;
    e->to = (struct jpeg_destination_mgr){ .init_destination = on_begin,
                                           .empty_output_buffer = on_full,
                                           .term_destination = on_end };
    if (!write_image(e, image, quality))
        FAIL(e->errors.msg_code == JERR_OUT_OF_MEMORY ? STATUS_NOMEM : STATUS_BUG, "%s: JPEG: %s", name, e->message);
    *bytes = e->bytes;
fail:
    if (e)
        jpeg_destroy_compress(&e->info);
    free(e);
    return status;
}
