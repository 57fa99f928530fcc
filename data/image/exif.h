/* exif.h - the EXIF orientation of a JPEG. */
#ifndef CSC_DATA_IMAGE_EXIF_H
#define CSC_DATA_IMAGE_EXIF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a file is a JPEG that is to be shown rotated or mirrored: its EXIF orientation is 2 to 8. Damaged EXIF data
 * count as none. */
bool exif_is_rotated(const uint8_t *data, size_t bytes);

#endif
