/* image_notes.h - what was unusual about an image, or had to be changed to store it; csc-pack counts and reports these.
 */
#ifndef CSC_DATA_IMAGE_IMAGE_NOTES_H
#define CSC_DATA_IMAGE_IMAGE_NOTES_H

/* The notes of an image are kept as bits 1 << note. A packing's journal stores these bits, so the order must not
 * change. */
enum image_note {
    NOTE_GREY,
    NOTE_CMYK,
    NOTE_DEEP,
    NOTE_DEEP_GREY,
    NOTE_PALETTE,
    NOTE_ALPHA,
    NOTE_MISNAMED,
    NOTE_ROTATED,
    NOTE_RESIZED,
    NOTE_REENCODED,
    IMAGE_NOTES,
};

/* Describes a note in a few words, such as "grey". */
const char *image_note_text(enum image_note note);

#endif
