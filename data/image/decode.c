/* decode.c - recognises formats by their first bytes. */
#include "data/image/decode.h"

#include <string.h>
#include <strings.h>

#include "data/format/format.h"

enum status decode_check_size(const char *name, int64_t width, int64_t height)
{
    enum status status = STATUS_OK;
    if (width < 1 || height < 1 || width > LIMIT_SIDE || height > LIMIT_SIDE || width * height > LIMIT_PIXELS)
        FAIL(STATUS_DATA, "%s: image of %lld x %lld pixels; at most %d a side and %u in all are read", name,
             (long long)width, (long long)height, LIMIT_SIDE, LIMIT_PIXELS);
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

/* Names the format of a file that is not supported, for the message; NULL if it is unknown. */
static const char *name_format(const uint8_t *data, size_t bytes)
{
    static const struct {
        unsigned at, length;
        const char *magic, *name;
    } formats[] = {
        { 0, 3, "GIF", "a GIF" },        { 0, 2, "BM", "a BMP" },           { 0, 4, "II*\0", "a TIFF" },
        { 0, 4, "MM\0*", "a TIFF" },     { 4, 8, "ftypavif", "an AVIF" },   { 4, 7, "ftyphei", "an HEIC" },
        { 4, 8, "ftypmif1", "an HEIC" }, { 0, 4, "\0\0\1\0", "an ICO" },    { 4, 4, "jP  ", "a JPEG 2000" },
        { 0, 4, "8BPS", "a PSD" },       { 0, 2, "P5", "a PGM" },           { 0, 2, "P6", "a PPM" },
        { 0, 4, "%PDF", "a PDF" },       { 0, 4, "PK\3\4", "a zip" },       { 0, 2, "\x1f\x8b", "a gzip file" },
        { 0, 4, "<svg", "an SVG" },      { 0, 2, "\xff\x0a", "a JPEG XL" }, { 4, 4, "JXL ", "a JPEG XL" },
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (bytes >= formats[i].at + formats[i].length &&
            !memcmp(data + formats[i].at, formats[i].magic, formats[i].length))
            return formats[i].name;
    return NULL;
}

enum status decode_image(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes)
{
    enum status status = STATUS_OK;
    bool named_jpeg = ends_in(name, ".jpg") || ends_in(name, ".jpeg"), named_png = ends_in(name, ".png");
    bool named_webp = ends_in(name, ".webp");
    const char *format = name_format(data, bytes);
    if (decode_is_jpeg(data, bytes)) {
        TRY(decode_jpeg(data, bytes, name, image, notes));
        *notes |= (unsigned)(named_png || named_webp) << NOTE_MISNAMED;
    } else if (bytes >= 8 && !memcmp(data, "\x89PNG\r\n\x1a\n", 8)) {
        TRY(decode_png(data, bytes, name, image, notes));
        *notes |= (unsigned)(named_jpeg || named_webp) << NOTE_MISNAMED;
    } else if (decode_is_webp(data, bytes)) {
        TRY(decode_webp(data, bytes, name, image, notes));
        *notes |= (unsigned)(named_jpeg || named_png) << NOTE_MISNAMED;
    } else {
        FAIL(STATUS_DATA, "%s: %s%s", name,
             !bytes   ? "empty file"
             : format ? format
                      : "not an image in a known format",
             bytes ? "; JPEG, PNG and WebP are read" : "");
    }
fail:
    return status;
}
