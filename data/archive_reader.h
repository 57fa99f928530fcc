/* archive_reader.h - the members of a .tar, .tar.gz, .tar.zst, ... one after the other, through libarchive. */
#ifndef CSC_DATA_ARCHIVE_READER_H
#define CSC_DATA_ARCHIVE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct archive_reader;

enum member_kind { MEMBER_FILE, MEMBER_FOLDER, MEMBER_OTHER };

struct member {
    const char *name; /* without leading "./" and trailing "/"; valid until the next member */
    enum member_kind kind;
    int64_t bytes;
};

/* STATUS_IO if it cannot be opened, STATUS_DATA if it is no archive. */
enum status archive_reader_open(struct archive_reader **reader, const char *path);
/* The next member; *end at the last. STATUS_DATA if the archive is damaged. */
enum status archive_reader_next(struct archive_reader *reader, struct member *member, bool *end);
/* The content of the current member into a buffer that grows; more than `limit` bytes is STATUS_DATA. */
enum status archive_reader_content(struct archive_reader *reader, size_t limit, uint8_t **data, size_t *capacity,
                                   size_t *bytes);
/* A copy of a member's name as paths are compared here: no "./" or "/" in front, no "/" behind. NULL without memory. */
char *archive_plain_name(const char *name);
void archive_reader_close(struct archive_reader *reader); /* NULL is fine */

#endif
