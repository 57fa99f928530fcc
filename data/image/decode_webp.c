/* decode_webp.c - decodes WebP with libwebp. Transparency is dropped, as in Pillow. */
#include "data/image/decode.h"

#include <string.h>
#ifdef CSC_WEBP
#include <webp/decode.h>
#endif

bool decode_is_webp(const uint8_t *data, size_t bytes)
{
    return bytes >= 12 && !memcmp(data, "RIFF", 4) && !memcmp(data + 8, "WEBP", 4);
}

#ifdef CSC_WEBP
static enum status check(VP8StatusCode code, const char *name)
{
    enum status status = STATUS_OK;
    if (code == VP8_STATUS_OUT_OF_MEMORY)
        FAIL(STATUS_NOMEM, "%s: WebP: out of memory", name);
    if (code != VP8_STATUS_OK)
        FAIL(STATUS_DATA, "%s: WebP: %s", name,
             code == VP8_STATUS_NOT_ENOUGH_DATA || code == VP8_STATUS_SUSPENDED ? "the file ends too early"
                                                                                : "damaged");
fail:
    return status;
}

enum status decode_webp(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes)
{
    enum status status = STATUS_OK;
    WebPDecoderConfig c;
    if (!WebPInitDecoderConfig(&c))
        FAIL(STATUS_BUG, "%s: libwebp is another version than its header", name);
    TRY(check(WebPGetFeatures(data, bytes, &c.input), name));
    if (c.input.has_animation)
        FAIL(STATUS_DATA, "%s: an animated WebP, which is not supported", name);
    TRY(decode_check_size(name, c.input.width, c.input.height));
    TRY(image_allocate(image, c.input.width, c.input.height));
    *notes |= (unsigned)(c.input.has_alpha != 0) << NOTE_ALPHA;
    size_t row = (size_t)image->width * 3;
    c.output.colorspace = MODE_RGB;
    c.output.is_external_memory = 1;
    c.output.u.RGBA.rgba = image->pixels;
    c.output.u.RGBA.stride = (int)row;
    c.output.u.RGBA.size = row * image->height;
    TRY(check(WebPDecode(data, bytes, &c), name));
fail:
    return status;
}
#else
enum status decode_webp(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes)
{
    (void)data, (void)bytes, (void)image, (void)notes;
    return status_report(STATUS_DATA, __FILE__, __LINE__, "%s: a WebP, and this program was built without libwebp",
                         name);
}
#endif
