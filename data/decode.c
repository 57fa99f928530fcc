/* decode.c - tells a JPEG from a PNG by its first bytes. */
#include "data/decode.h"

#include <string.h>
#include <strings.h>

#include "data/format.h"
#include "data/pack.h"

enum status decode_check_size(const char *name, int64_t width, int64_t height)
{
    enum status status = STATUS_OK;
    if (width < 1 || height < 1 || width > LIMIT_SIDE || height > LIMIT_SIDE || width * height > LIMIT_PIXELS)
        FAIL(STATUS_DATA, "%s: image of %lld x %lld pixels", name, (long long)width, (long long)height);
fail:
    return status;
}

static bool ends_in(const char *name, const char *ending)
{
    size_t n = strlen(name), e = strlen(ending);
    return n >= e && !strcasecmp(name + n - e, ending);
}

bool decode_is_jpeg(const uint8_t *data, size_t bytes)
{
    return bytes >= 3 && !memcmp(data, "\xff\xd8\xff", 3);
}

enum status decode_image(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes)
{
    enum status status = STATUS_OK;
    bool named_jpeg = ends_in(name, ".jpg") || ends_in(name, ".jpeg"), named_png = ends_in(name, ".png");
    if (decode_is_jpeg(data, bytes)) {
        TRY(decode_jpeg(data, bytes, name, image, notes));
        *notes |= (unsigned)named_png << NOTE_MISNAMED;
    } else if (bytes >= 8 && !memcmp(data, "\x89PNG\r\n\x1a\n", 8)) {
        TRY(decode_png(data, bytes, name, image, notes));
        *notes |= (unsigned)named_jpeg << NOTE_MISNAMED;
    } else {
        FAIL(STATUS_DATA, "%s: %s", name, bytes ? "neither a JPEG nor a PNG" : "empty file");
    }
fail:
    return status;
}
