/* archive_reader.h - reads the members of a .tar, .tar.gz, .tar.zst, ... one after the other, with libarchive. */
#ifndef CSC_DATA_SOURCES_ARCHIVE_READER_H
#define CSC_DATA_SOURCES_ARCHIVE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct archive_reader;

enum member_kind { MEMBER_FILE, MEMBER_FOLDER, MEMBER_LINK, MEMBER_SPARSE, MEMBER_OTHER };

struct member {
    const char *name; /* as archive_plain_name makes it; valid until the next member */
    enum member_kind kind;
    int64_t bytes;
};

/* STATUS_IO if the file cannot be opened, STATUS_DATA if it is not an archive. */
enum status archive_reader_open(struct archive_reader **reader, const char *path);
/* Reads the next member's header. After the last member *end is true; the rest of the file has then been read and its
 * checksums compared. STATUS_DATA if the archive is damaged. */
enum status archive_reader_next(struct archive_reader *reader, struct member *member, bool *end);
/* Reads the current member's content into *data, which is grown as needed. STATUS_DATA if it has more than `limit`
 * bytes. */
enum status archive_reader_content(struct archive_reader *reader, size_t limit, uint8_t **data, size_t *capacity,
                                   size_t *bytes);
void archive_reader_close(struct archive_reader *reader); /* accepts NULL */

/* Returns a copy of a member's name in the form in which paths are compared here: components with one "/" between them,
 * none of them "." or "..". NULL if there is no memory. */
char *archive_plain_name(const char *name);

/* Why a member of this kind cannot be read as a file; NULL if it can. */
const char *member_fault(enum member_kind kind);

/* How a tar ends: as it should; without its end-of-archive mark; or with more data after that mark. */
enum archive_end { ARCHIVE_END_GOOD, ARCHIVE_END_MISSING, ARCHIVE_END_EARLY };
void archive_warn_end(const char *name, enum archive_end end); /* warns unless the end is good */

#endif
