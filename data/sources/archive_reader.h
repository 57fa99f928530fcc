/* archive_reader.h - the members of a .tar, .tar.gz, .tar.zst, ... one after the other, through libarchive. */
#ifndef CSC_DATA_SOURCES_ARCHIVE_READER_H
#define CSC_DATA_SOURCES_ARCHIVE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct archive_reader;

enum member_kind { MEMBER_FILE, MEMBER_FOLDER, MEMBER_LINK, MEMBER_SPARSE, MEMBER_OTHER };

struct member {
    const char *name; /* plain (archive_plain_name); valid until the next member */
    enum member_kind kind;
    int64_t bytes;
};

/* STATUS_IO if it cannot be opened, STATUS_DATA if it is no archive. */
enum status archive_reader_open(struct archive_reader **reader, const char *path);
/* The next member; *end at the last, once all the rest of the file has been read. STATUS_DATA if it is damaged. */
enum status archive_reader_next(struct archive_reader *reader, struct member *member, bool *end);
/* The content of the current member into a buffer that grows; more than `limit` bytes is STATUS_DATA. */
enum status archive_reader_content(struct archive_reader *reader, size_t limit, uint8_t **data, size_t *capacity,
                                   size_t *bytes);
/* A copy of a member's name as paths are compared here: parts with one "/" between them, none of them "." or "..".
 * NULL without memory. */
char *archive_plain_name(const char *name);

/* Why a member of this kind cannot be read as a file; NULL if it can. */
const char *member_fault(enum member_kind kind);

/* How a tar ends: as it should; without its end-of-archive mark; with something behind that mark. */
enum archive_end { ARCHIVE_END_GOOD, ARCHIVE_END_MISSING, ARCHIVE_END_EARLY };
void archive_warn_end(const char *name, enum archive_end end); /* warns unless it is good */
void archive_reader_close(struct archive_reader *reader);      /* NULL is fine */

#endif
