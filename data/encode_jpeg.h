/* encode_jpeg.h - an image that was made smaller, as a JPEG again. */
#ifndef CSC_DATA_ENCODE_JPEG_H
#define CSC_DATA_ENCODE_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image.h"

enum { ENCODE_QUALITY = 90 };

/* Writes the image at quality ENCODE_QUALITY, 4:2:0, into a buffer that grows. The same pixels give the same bytes with
 * the same libjpeg. `name` is for messages. STATUS_NOMEM, STATUS_BUG. */
enum status encode_jpeg(const struct image *image, const char *name, uint8_t **data, size_t *capacity, size_t *bytes);

#endif
