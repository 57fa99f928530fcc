/* encode_jpeg.h - an image as a JPEG, again if it was made smaller. */
#ifndef CSC_DATA_IMAGE_ENCODE_JPEG_H
#define CSC_DATA_IMAGE_ENCODE_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image.h"

enum { ENCODE_QUALITY = 90 }; /* of what is packed */

/* Writes the image at the quality, 4:2:0, into a buffer that grows. The same pixels give the same bytes with
 * the same libjpeg. `name` is for messages. STATUS_NOMEM, STATUS_BUG. */
enum status encode_jpeg(const struct image *image, int quality, const char *name, uint8_t **data, size_t *capacity,
                        size_t *bytes);

#endif
