/* archive_stream.h - the content of a compressed archive from its first byte to its last, checksums compared. */
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
    struct archive *archive; /* unpacks all but gzip; NULL for gzip */
    z_stream zlib;
    bool zlib_ready, in_member; /* zlib is initialised; it is in_member a gzip member */
    uint8_t *in, *out;
    uint64_t bytes;    /* that have come */
    uint64_t data_end; /* behind the last of them that is not 0 */
};

/* STATUS_IO if it cannot be opened, STATUS_DATA if it is damaged or nothing that is read here. `path` is not copied. */
enum status archive_stream_open(struct archive_stream *stream, const char *path);
/* The next bytes, valid until the next call; *bytes is 0 at the end. STATUS_DATA: a wrong checksum, or truncated. */
enum status archive_stream_next(struct archive_stream *stream, const void **data, size_t *bytes);
void archive_stream_close(struct archive_stream *stream);

/* What libarchive says of its last error, which may be nothing. */
const char *archive_stream_error(struct archive *archive);

#endif
