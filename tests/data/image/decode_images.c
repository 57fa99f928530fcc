/* decode_images.c - decodes files for compare_mutants.py, all in one process. In: u32 bytes and the file, until the
 * end. Out, for each: u32 code; if it is 0, u32 width, u32 height and the pixels, else u32 length and the message. All
 * are little-endian. A window of a JPEG that is not that part of the whole is code 70. With an argument it only prints
 * the version of its libjpeg-turbo. */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>
#include <stdlib.h>
#include <string.h>

#include "data/format/format.h"
#include "data/image/decode.h"

static void put_u32(uint32_t value)
{
    uint8_t bytes[4];
    put32(bytes, value);
    fwrite(bytes, 1, sizeof bytes, stdout);
}

static enum status check_window(const uint8_t *data, size_t bytes, const struct image *whole, struct box box)
{
    enum status status = STATUS_OK;
    struct image part = { 0 };
    struct view view;
    struct jpeg_window window = { whole->width, whole->height, box, 1 };
    if (decode_jpeg_window(data, bytes, "window", &window, &part, &view) != STATUS_OK)
        FAIL(STATUS_BUG, "the whole decodes, but not a part: %s", status_message());
    for (int y = 0; y < box.height; y++)
        if (memcmp(view.pixels + y * view.stride, whole->pixels + ((size_t)(box.y + y) * whole->width + box.x) * 3,
                   (size_t)box.width * 3) != 0)
            FAIL(STATUS_BUG, "row %d of the part of %d x %d at %d, %d differs from the whole", y, box.width, box.height,
                 box.x, box.y);
fail:
    image_finish(&part);
    return status;
}

static enum status decode(const uint8_t *data, size_t bytes, struct image *image)
{
    enum status status = STATUS_OK;
    unsigned notes = 0;
    TRY(decode_image(data, bytes, "file", image, &notes));
    int w = image->width, h = image->height;
    if (decode_is_jpeg(data, bytes)) {
        TRY(check_window(data, bytes, image, (struct box){ w / 3, h / 3, (w + 2) / 3, (h + 2) / 3 }));
        TRY(check_window(data, bytes, image, (struct box){ w / 2, 0, w - w / 2, h }));
    }
fail:
    return status;
}

#define TEXT_OF(text)         #text
#define VERSION_TEXT(version) TEXT_OF(version)

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1)
        return puts(VERSION_TEXT(LIBJPEG_TURBO_VERSION)) < 0;
    struct image image = { 0 };
    uint8_t head[4];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t bytes = get32(head);
        uint8_t *data = malloc(bytes ? bytes
                                     : 1); /* a separate allocation, so that a sanitizer notices reads beyond its end */
        if (!data || fread(data, 1, bytes, stdin) != bytes)
            return 1;
        enum status status = decode(data, bytes, &image);
        put_u32((uint32_t)status);
        if (status == STATUS_OK) {
            put_u32((uint32_t)image.width);
            put_u32((uint32_t)image.height);
            fwrite(image.pixels, 1, (size_t)image.width * image.height * 3, stdout);
        } else {
            put_u32((uint32_t)strlen(status_message()));
            fputs(status_message(), stdout);
        }
        fflush(stdout);
        free(data);
    }
    image_finish(&image);
    return 0;
}
