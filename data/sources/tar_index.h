/* tar_index.h - where the members of an uncompressed tar archive lie, so that they can be read in any order; the
 * archive may itself be a part of a file, such as a member of another archive. ustar, GNU long names, pax. */
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

/* Called for every member; its content is at [offset, offset + bytes) of the file. A failure ends the listing. */
typedef enum status tar_visit(void *context, const struct member *member, uint64_t offset);

/* Whether the range begins with a tar header. STATUS_IO. */
enum status tar_recognise(const struct tar_range *range, bool *is_tar);

/* Visits all members in order; *end is how the archive ends. STATUS_DATA if it is damaged or ends inside a member,
 * STATUS_IO. */
enum status tar_list(const struct tar_range *range, tar_visit *visit, void *context, enum archive_end *end);

#endif
