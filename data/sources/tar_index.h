/* tar_index.h - lists the members of an uncompressed tar archive with their offsets, so that they can be read in any
 * order. The archive may be a part of a file, such as a member of another archive. Reads ustar, GNU and pax names. */
#ifndef CSC_DATA_SOURCES_TAR_INDEX_H
#define CSC_DATA_SOURCES_TAR_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/sources/archive_reader.h"

/* Bytes [offset, offset + bytes) of an open file, or of memory if fd is -1. */
struct tar_range {
    const char *name; /* for messages */
    int fd;
    const uint8_t *memory;
    uint64_t offset, bytes;
};

/* Called for every member, whose content begins at `offset` of the file. A failure ends the listing. */
typedef enum status tar_visit(void *context, const struct member *member, uint64_t offset);

/* Tells whether the range begins with a tar header. STATUS_IO. */
enum status tar_recognise(const struct tar_range *range, bool *is_tar);

/* Visits all members in order and tells how the archive ends. STATUS_IO; STATUS_DATA if it is damaged or ends inside a
 * member. */
enum status tar_list(const struct tar_range *range, tar_visit *visit, void *context, enum archive_end *end);

#endif
