/* exif.c - reads the orientation in the first EXIF segment of a JPEG. Every offset is checked. */
#include "data/image/exif.h"

#include <string.h>

enum { ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY = 12 };

struct tiff {
    const uint8_t *data;
    size_t bytes;
    bool little;
};

static uint32_t get(const struct tiff *t, size_t at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)t->data[at + (size_t)i] << 8 * (t->little ? i : bytes - 1 - i);
    return value;
}

/* A TIFF is "II*\0" or "MM\0*" and the offset of its first directory, with entries of tag u16, type u16, count u32 and
 * 4 bytes of value. */
static bool tiff_is_rotated(struct tiff *t)
{
    if (t->bytes < 8 || (memcmp(t->data, "II*\0", 4) && memcmp(t->data, "MM\0*", 4)))
        return false;
    t->little = t->data[0] == 'I';
    size_t at = get(t, 4, 4);
    if (at > t->bytes - 2)
        return false;
    size_t count = get(t, at, 2);
    for (at += 2; count && t->bytes - at >= ENTRY; at += ENTRY, count--) {
        if (get(t, at, 2) != ORIENTATION)
            continue;
        uint32_t value = get(t, at + 8, 2);
        return get(t, at + 2, 2) == TYPE_SHORT && value >= 2 && value <= 8;
    }
    return false;
}

bool exif_is_rotated(const uint8_t *data, size_t bytes)
{
    size_t at = 2;
    if (bytes < 4 || data[0] != 0xff || data[1] != 0xd8)
        return false;
    while (bytes - at >= 4 && data[at] == 0xff && data[at + 1] != 0xda) { /* until the first scan */
        size_t length = (size_t)data[at + 2] << 8 | data[at + 3];
        if (length < 2 || length > bytes - at - 2)
            return false;
        if (data[at + 1] == 0xe1 && length >= 8 && !memcmp(data + at + 4, "Exif\0\0", 6)) {
            struct tiff t = { data + at + 10, length - 8, false };
            return tiff_is_rotated(&t);
        }
        at += 2 + length;
    }
    return false;
}
