/* fuzz_archive.c - reads any bytes as a compressed archive, to its end. Data that gzip's checksums do not match must be
 * refused: a .tar.gz that is accepted is decompressed here again, member by member. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/log.h"
#include "data/sources/archive_reader.h"
#include "tests/fuzz/fuzz.h"

enum { TAR_BLOCK = 512, GZIP = 16 + MAX_WBITS };

/* Writes a gzip member that holds the bytes. */
static size_t put_gzip(unsigned char *out, size_t capacity, const void *data, size_t bytes)
{
    z_stream z = { .next_in = (void *)data, .avail_in = (uInt)bytes, .next_out = out, .avail_out = (uInt)capacity };
    if (deflateInit2(&z, 6, Z_DEFLATED, GZIP, 8, Z_DEFAULT_STRATEGY) != Z_OK || deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort();
    deflateEnd(&z);
    return z.total_out;
}

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    unsigned char tar[4 * TAR_BLOCK] = "class/a.JPEG";
    unsigned sum = 8 * ' ';
    if (index > 2 || capacity < sizeof tar)
        return 0;
    snprintf((char *)tar + 124, 12, "%011o", 100);
    tar[156] = '0';
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += i < 148 || i > 155 ? tar[i] : 0;
    snprintf((char *)tar + 148, 7, "%06o", sum);
    tar[155] = ' ';
    for (int i = 0; i < 100; i++)
        tar[TAR_BLOCK + i] = (unsigned char)(i * i);
    if (index == 0) {
        memcpy(out, tar, sizeof tar);
        return sizeof tar;
    }
    size_t first = index == 1 ? sizeof tar : 700, bytes = put_gzip(out, capacity, tar, first);
    return index == 1 ? bytes : bytes + put_gzip(out + bytes, capacity - bytes, tar + first, sizeof tar - first);
}

/* Whether gzip accepts all members; zeros may follow them. */
static bool inflates(const unsigned char *data, size_t size)
{
    static unsigned char out[1 << 16];
    z_stream z = { .next_in = (void *)data, .avail_in = (uInt)size };
    int code = Z_STREAM_END;
    if (inflateInit2(&z, GZIP) != Z_OK)
        abort();
    while ((code == Z_OK || code == Z_STREAM_END) && z.avail_in) {
        if (code == Z_STREAM_END && z.next_in != data && !*z.next_in) {
            z.next_in++;
            z.avail_in--;
            continue;
        }
        if (code == Z_STREAM_END)
            inflateReset(&z);
        z.next_out = out;
        z.avail_out = sizeof out;
        code = inflate(&z, Z_NO_FLUSH);
    }
    while (code == Z_OK) { /* the rest of the output */
        z.next_out = out;
        z.avail_out = sizeof out;
        code = inflate(&z, Z_NO_FLUSH);
    }
    inflateEnd(&z);
    return code == Z_STREAM_END;
}

static enum status read_all(const char *path)
{
    enum status status = STATUS_OK;
    struct archive_reader *reader = NULL;
    struct member member;
    uint8_t *data = NULL;
    size_t capacity = 0, bytes = 0;
    bool end = false;
    TRY(archive_reader_open(&reader, path));
    for (;;) {
        TRY(archive_reader_next(reader, &member, &end));
        if (end)
            break;
        if (member.kind == MEMBER_FILE)
            TRY(archive_reader_content(reader, 1 << 20, &data, &capacity, &bytes));
    }
fail:
    free(data);
    archive_reader_close(reader);
    return status;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char path[64];
    int fd = memfd_create("archive", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    log_init("fuzz", 1, 2); /* as rank 1, which does not print warnings */
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum status status = read_all(path);
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (status == STATUS_OK && size > 1 && data[0] == 0x1f && data[1] == 0x8b && !inflates(data, size))
        abort();
    close(fd);
    return 0;
}
