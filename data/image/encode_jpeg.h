/* encode_jpeg.h - encodes an image as a JPEG, for images that csc-pack made smaller or read from a WebP. */
#ifndef CSC_DATA_IMAGE_ENCODE_JPEG_H
#define CSC_DATA_IMAGE_ENCODE_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"

enum { ENCODE_QUALITY = 90 }; /* with which csc-pack encodes */

/* Encodes an image with 4:2:0 subsampling into *data, a buffer that grows; *bytes is the length of the file. The same
 * pixels and the same libjpeg give the same bytes. Messages begin with `name`. Errors: STATUS_NOMEM, STATUS_BUG. */
enum status encode_jpeg(const struct image *image, int quality, const char *name, uint8_t **data, size_t *capacity,
                        size_t *bytes);

#endif
