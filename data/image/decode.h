/* decode.h - JPEG, PNG and WebP files to 8-bit RGB, as Pillow's Image.open(...).convert("RGB"). */
#ifndef CSC_DATA_IMAGE_DECODE_H
#define CSC_DATA_IMAGE_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"
#include "data/image/image_notes.h"

/* Decodes what the first bytes say it is, whatever `name` ends in. Sets bits 1 << enum image_note in *notes.
 * Any fault of the file, truncation included, is STATUS_DATA with `name` in its message; STATUS_NOMEM is none. */
enum status decode_image(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

/* A part of a JPEG. */
struct jpeg_window {
    int width, height; /* of the whole image: what its header must say */
    struct box box;    /* inside it */
    int shrink;        /* 1, or 2, 4, 8: decoded at a fraction of the size by smaller transforms, which is not exact */
};

/* Decodes only what the box needs. *view, in the image's memory, is the box; with shrink 1 it equals that part of
 * decode_jpeg's image, else it is the box divided by shrink, rounded outwards. STATUS_DATA, STATUS_NOMEM. */
enum status decode_jpeg_window(const uint8_t *data, size_t bytes, const char *name, const struct jpeg_window *window,
                               struct image *image, struct view *view);

/* True if the first bytes are those of a JPEG, of a WebP. */
bool decode_is_jpeg(const uint8_t *data, size_t bytes);
bool decode_is_webp(const uint8_t *data, size_t bytes);

enum status decode_jpeg(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);
enum status decode_png(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

/* An animation is refused. STATUS_DATA for any WebP in a build without libwebp. */
enum status decode_webp(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

/* STATUS_DATA unless width and height are within the format's limits. */
enum status decode_check_size(const char *name, int64_t width, int64_t height);

#endif
