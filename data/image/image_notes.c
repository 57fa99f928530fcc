/* image_notes.c - the words for each note, as csc-pack prints them and writes them to report.tsv. */
#include "data/image/image_notes.h"

const char *image_note_text(enum image_note note)
{
    static const char *const texts[IMAGE_NOTES] = {
        "grey",
        "CMYK",
        "16 bits a channel",
        "16-bit grey (values above 255 become white, as in Pillow)",
        "palette",
        "transparency dropped",
        "named as another format than it is",
        "EXIF rotation not applied, as in torchvision",
        "made smaller",
        "WebP, stored as a JPEG of quality 90",
    };
    return texts[note];
}
