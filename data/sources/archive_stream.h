/* archive_stream.h - the decompressed content of an archive, from its first byte to its last, with checksums compared.
 */
#ifndef CSC_DATA_SOURCES_ARCHIVE_STREAM_H
#define CSC_DATA_SOURCES_ARCHIVE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include "base/status.h"

struct archive_stream {
    const char *path;
    int fd;
    struct archive *archive; /* libarchive, which decompresses everything but gzip; NULL for gzip */
    z_stream zlib;           /* decompresses gzip */
    bool zlib_ready;         /* zlib is initialised */
    bool in_member;          /* inside a gzip member, of which a file may have several */
    uint8_t *in, *out;
    uint64_t bytes;    /* returned so far */
    uint64_t data_end; /* offset behind the last of them that is not 0 */
};

/* STATUS_IO if the file cannot be opened, STATUS_DATA if it is damaged or of a kind that is not read here. `path` is
 * not copied. */
enum status archive_stream_open(struct archive_stream *stream, const char *path);
/* Returns the next bytes, which are valid until the next call; *bytes is 0 at the end. STATUS_DATA if the file is cut
 * off or a checksum is wrong. */
enum status archive_stream_next(struct archive_stream *stream, const void **data, size_t *bytes);
void archive_stream_close(struct archive_stream *stream);

/* libarchive's message about its last error, or a general one if it has none. */
const char *archive_stream_error(struct archive *archive);

#endif
