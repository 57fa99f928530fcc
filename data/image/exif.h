/* exif.h - whether a JPEG says that it is to be shown turned or mirrored. */
#ifndef CSC_DATA_IMAGE_EXIF_H
#define CSC_DATA_IMAGE_EXIF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True if the file is a JPEG whose EXIF orientation is one of 2 to 8. Anything odd is false. */
bool exif_is_rotated(const uint8_t *data, size_t bytes);

#endif
