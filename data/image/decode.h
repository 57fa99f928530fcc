/* decode.h - decodes JPEG, PNG and WebP files to 8-bit RGB, as Pillow's Image.open(...).convert("RGB") does. */
#ifndef CSC_DATA_IMAGE_DECODE_H
#define CSC_DATA_IMAGE_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"
#include "data/image/image_notes.h"

/* In all functions `data` is a file of `bytes` bytes, and messages begin with `name`. Decoders add bits
 * 1 << enum image_note to *notes. Any fault of the file, such as a missing end, is STATUS_DATA; too little memory is
 * STATUS_NOMEM. */

/* Decodes a file by its first bytes, whatever the ending of its name is. */
enum status decode_image(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

/* A part of a JPEG. */
struct jpeg_window {
    int width, height; /* of the whole image; another size in the file is STATUS_DATA */
    struct box box;    /* the part, inside the image */
    int shrink;        /* 1: exact; 2, 4 or 8: decoded at that fraction of the size by smaller transforms */
};

/* Decodes only what the box needs. With shrink 1, *view equals that part of decode_jpeg's image; with a larger one it
 * is the box divided by shrink, rounded outwards. The pixels belong to the image. */
enum status decode_jpeg_window(const uint8_t *data, size_t bytes, const char *name, const struct jpeg_window *window,
                               struct image *image, struct view *view);

/* Whether the first bytes are those of a JPEG, of a WebP. */
bool decode_is_jpeg(const uint8_t *data, size_t bytes);
bool decode_is_webp(const uint8_t *data, size_t bytes);

enum status decode_jpeg(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);
enum status decode_png(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

/* An animation is STATUS_DATA; so is any WebP in a build without libwebp. */
enum status decode_webp(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

/* Returns STATUS_DATA unless width and height are within the format's limits. */
enum status decode_check_size(const char *name, int64_t width, int64_t height);

#endif
