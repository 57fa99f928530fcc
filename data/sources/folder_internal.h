/* folder_internal.h - shared by folder.c and imagenet.c: image files that are listed first and then read in any order.
 */
#ifndef CSC_DATA_SOURCES_FOLDER_INTERNAL_H
#define CSC_DATA_SOURCES_FOLDER_INTERNAL_H

#include "data/sources/archive_reader.h"
#include "data/sources/folder.h"
#include "data/sources/listing.h"
#include "data/sources/tar_index.h"

#define LIMIT_FILE ((size_t)512 << 20) /* bytes of one image file */

struct folder {
    struct pack_source source; /* must be first: pointers to it are cast to the folder */
    char *path;
    char *root; /* without slashes at its ends, or "" */
    struct listing listing;
    int archive_fd;                /* an uncompressed archive or a spool file, read by offset; -1: none */
    struct archive_reader *reader; /* a compressed archive, read in its own order; NULL: none */
    int64_t stream_position;       /* images read from it so far */
};

enum status folder_create(struct folder **folder, const char *path);
/* Opens folder->path. If that is an uncompressed tar, *is_tar is true and *range is all of it. */
enum status folder_open_tar(struct folder *folder, struct tar_range *range, bool *is_tar);

/* Why an archive's member cannot be packed, as far as its header tells; NULL: it can. */
const char *folder_member_fault(const struct member *member);

/* Sets up folder->source, once the listing is complete. */
enum status folder_complete(struct folder *folder);

#endif
