/* decode.h - JPEG and PNG files to 8-bit RGB, as Pillow's Image.open(...).convert("RGB"). */
#ifndef CSC_DATA_DECODE_H
#define CSC_DATA_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image.h"

/* Decodes what the first bytes say it is, whatever `name` ends in. Sets bits 1 << enum pack_note in *notes.
 * Any fault of the file, truncation included, is STATUS_DATA with `name` in its message. */
enum status decode_image(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

enum status decode_jpeg(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);
enum status decode_png(const uint8_t *data, size_t bytes, const char *name, struct image *image, unsigned *notes);

/* STATUS_DATA unless width and height are within the format's limits. */
enum status decode_check_size(const char *name, int64_t width, int64_t height);

#endif
