/* image_notes.h - what was unusual about an image or was changed to store it. csc-pack counts and reports these. */
#ifndef CSC_DATA_IMAGE_IMAGE_NOTES_H
#define CSC_DATA_IMAGE_IMAGE_NOTES_H

/* An image's notes are bits 1 << note. The journal of a packing stores these bits, so the order must not change. */
enum image_note {
    NOTE_GREY,
    NOTE_CMYK,
    NOTE_DEEP,      /* 16 bits a channel, of which the high 8 were kept */
    NOTE_DEEP_GREY, /* 16-bit grey, clipped at 255 */
    NOTE_PALETTE,
    NOTE_ALPHA,     /* transparency was dropped */
    NOTE_MISNAMED,  /* the ending of the name is that of another format */
    NOTE_ROTATED,   /* an EXIF orientation was not applied */
    NOTE_RESIZED,   /* the image was made smaller */
    NOTE_REENCODED, /* a WebP was stored as a JPEG */
    IMAGE_NOTES,
};

/* Describes a note in a few words, such as "grey". */
const char *image_note_text(enum image_note note);

#endif
