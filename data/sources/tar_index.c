/* tar_index.c - walks the 512-byte headers of a tar archive. A header is used only if its checksum is right and its
 * member lies inside the archive.
 * header: name 100, mode 8, ids 16, size 12 (at 124, octal or base 256), time 12, checksum 8 (at 148), type 1 (at 156),
 * link 100, magic 6 (at 257), ..., prefix 155 (at 345). The byte at 482 of a GNU sparse file ('S') tells whether
 * another block of its map follows; in those blocks the byte at 504 does. */
#include "data/sources/tar_index.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/integer.h"
#include "base/memory.h"

enum { TAR_BLOCK = 512, MAX_NAME = 4096, MAX_EXTENSION = 1 << 20, MAX_PADDING = 1 << 20 };

struct walk {
    const struct tar_range *range;
    uint64_t position;  /* of the next header in the range */
    uint8_t *extension; /* content of a long name or of pax records */
    size_t capacity;
    /* What extensions say about the next member: */
    char *name; /* NULL: nothing */
    uint64_t size;
    bool has_size;
    bool sparse; /* it is stored as a sparse file */
};

static enum status read_range(const struct tar_range *r, uint64_t at, void *out, size_t bytes)
{
    enum status status = STATUS_OK;
    if (at > r->bytes || bytes > r->bytes - at)
        FAIL(STATUS_DATA, "%s: truncated: ends at byte %llu inside a member", r->name, (unsigned long long)r->bytes);
    if (r->fd < 0) {
        memcpy(out, r->memory + r->offset + at, bytes);
        return STATUS_OK;
    }
    ssize_t got = file_read_at(r->fd, out, bytes, r->offset + at);
    if (got < 0)
        FAIL(STATUS_IO, "%s: %s", r->name, strerror(errno));
    if ((size_t)got < bytes)
        FAIL(STATUS_DATA, "%s: the file became shorter while it was read", r->name);
fail:
    return status;
}

static bool all_zero(const uint8_t *header)
{
    for (int i = 0; i < TAR_BLOCK; i++)
        if (header[i])
            return false;
    return true;
}

/* Parses octal digits with spaces around them, or base 256 if the first bit is set. False if it is neither, or too
 * large. */
static bool parse_numeric_field(const uint8_t *field, int bytes, uint64_t *value)
{
    int i = 0;
    *value = 0;
    if (field[0] & 0x80) {
        if (field[0] != 0x80)
            return false; /* negative, or at least 2^88 */
        for (i = 1; i < bytes; i++) {
            if (*value >> 55)
                return false;
            *value = *value << 8 | field[i];
        }
        return true;
    }
    while (i < bytes && field[i] == ' ')
        i++;
    for (; i < bytes && field[i] >= '0' && field[i] <= '7'; i++)
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    for (; i < bytes; i++)
        if (field[i] != ' ' && field[i] != 0)
            return false;
    return true;
}

/* Checks the sum of the header's bytes, with spaces for the checksum field. Old programs added signed bytes. */
static bool checksum_ok(const uint8_t *header)
{
    uint64_t stated;
    int64_t plain = 0, with_sign = 0;
    for (int i = 0; i < TAR_BLOCK; i++) {
        uint8_t byte = i >= 148 && i < 156 ? ' ' : header[i];
        plain += byte;
        with_sign += (int8_t)byte;
    }
    return parse_numeric_field(header + 148, 8, &stated) && ((int64_t)stated == plain || (int64_t)stated == with_sign);
}

enum status tar_recognise(const struct tar_range *range, bool *is_tar)
{
    enum status status = STATUS_OK;
    uint8_t header[TAR_BLOCK];
    *is_tar = false;
    if (range->bytes < TAR_BLOCK)
        return STATUS_OK;
    TRY(read_range(range, 0, header, TAR_BLOCK));
    *is_tar = !all_zero(header) && checksum_ok(header);
fail:
    return status;
}

/* Returns the member's name from its header, prefix/name. NULL if there is no memory. */
static char *header_name(const uint8_t *header)
{
    char text[155 + 1 + 100 + 1];
    int prefix = 0, name = (int)strnlen((const char *)header, 100);
    if (!memcmp(header + 257, "ustar\0", 6)) /* GNU's own format has no prefix there */
        prefix = (int)strnlen((const char *)header + 345, 155);
    snprintf(text, sizeof text, "%.*s%s%.*s", prefix, header + 345, prefix ? "/" : "", name, header);
    return strdup(text);
}

/* Applies a pax record "key=value" that ends at `stop`. */
static enum status apply_pax(struct walk *w, const char *key, const char *stop)
{
    enum status status = STATUS_OK;
    static const char sparse_name[] = "GNU.sparse.name=";
    size_t name = !strncmp(key, "path=", 5) && !w->sparse ? 5 : !strncmp(key, sparse_name, 16) ? 16 : 0;
    w->sparse |= !strncmp(key, "GNU.sparse.", 11);
    if (name && stop - key > (ptrdiff_t)name) {
        free(w->name);
        w->name = strndup(key + name, (size_t)(stop - key) - name);
        if (!w->name)
            FAIL(STATUS_NOMEM, "%s: out of memory", w->range->name);
    } else if (stop - key > 5 && !strncmp(key, "size=", 5)) {
        char *rest;
        errno = 0;
        w->size = strtoull(key + 5, &rest, 10);
        w->has_size = true;
        if (errno || rest != stop || key[5] == '-')
            FAIL(STATUS_DATA, "%s: the size in a pax record is not a number", w->range->name);
    }
fail:
    return status;
}

/* Parses pax records, each "LENGTH KEY=VALUE\n". */
static enum status parse_pax(struct walk *w, size_t bytes)
{
    enum status status = STATUS_OK;
    const char *text = (const char *)w->extension, *end = text + bytes;
    while (text < end && *text) {
        char *rest;
        unsigned long length = strtoul(text, &rest, 10); /* a 0 byte follows the content */
        if (rest == text || *rest != ' ' || length <= (size_t)(rest - text) + 1 || length > (size_t)(end - text) ||
            text[length - 1] != '\n')
            FAIL(STATUS_DATA, "%s: a pax record is damaged", w->range->name);
        TRY(apply_pax(w, rest + 1, text + length - 1));
        text += length;
    }
fail:
    return status;
}

/* Reads a member that only describes the next one. */
static enum status read_extension(struct walk *w, char type, uint64_t bytes)
{
    enum status status = STATUS_OK;
    if (bytes > MAX_EXTENSION)
        FAIL(STATUS_DATA, "%s: a long name or pax record has %llu bytes, which is too long", w->range->name,
             (unsigned long long)bytes);
    TRY(buffer_grow(&w->extension, &w->capacity, (size_t)bytes + 1));
    TRY(read_range(w->range, w->position + TAR_BLOCK, w->extension, (size_t)bytes));
    w->extension[bytes] = 0;
    if (type == 'x')
        TRY(parse_pax(w, (size_t)bytes));
    if (type == 'L') {
        free(w->name);
        w->name = strdup((const char *)w->extension);
        if (!w->name)
            FAIL(STATUS_NOMEM, "%s: out of memory", w->range->name);
    }
fail:
    return status;
}

static enum member_kind kind_of(char type, bool slash, bool sparse)
{
    bool file = type == '0' || type == 0 || type == '7';
    if (type == '5' || type == 'D' ||
        (file && slash)) /* D: a folder in an incremental backup, with its list of files */
        return MEMBER_FOLDER;
    if (type == 'S' || sparse)
        return MEMBER_SPARSE;
    return file ? MEMBER_FILE : type == '1' || type == '2' ? MEMBER_LINK : MEMBER_OTHER;
}

static enum status visit_member(struct walk *w, const uint8_t *header, uint64_t bytes, tar_visit *visit, void *context)
{
    enum status status = STATUS_OK;
    char type = (char)header[156], *plain = NULL;
    char *name = w->name ? w->name : header_name(header);
    w->name = NULL;
    if (!name)
        FAIL(STATUS_NOMEM, "%s: out of memory", w->range->name);
    size_t length = strlen(name);
    if (length > MAX_NAME)
        FAIL(STATUS_DATA, "%s: a name has %zu bytes, which is too long", w->range->name, length);
    plain = archive_plain_name(name);
    if (!plain)
        FAIL(STATUS_NOMEM, "%s: out of memory", w->range->name);
    struct member member = { plain, kind_of(type, length && name[length - 1] == '/', w->sparse), (int64_t)bytes };
    TRY(visit(context, &member, w->range->offset + w->position + TAR_BLOCK));
fail:
    free(name);
    free(plain);
    return status;
}

/* Skips the blocks that continue a sparse file's map. */
static enum status skip_sparse_map(struct walk *w, const uint8_t *header)
{
    enum status status = STATUS_OK;
    uint8_t block[TAR_BLOCK];
    for (bool more = header[482] != 0; more; more = block[504] != 0) {
        w->position += TAR_BLOCK;
        TRY(read_range(w->range, w->position, block, TAR_BLOCK));
    }
fail:
    return status;
}

/* Visits the member at w->position and moves to the next one. */
static enum status next_member(struct walk *w, const uint8_t *header, tar_visit *visit, void *context)
{
    enum status status = STATUS_OK;
    char type = (char)header[156];
    uint64_t bytes = 0;
    bool extension = type && strchr("xgLK", type);
    if (!checksum_ok(header) || !parse_numeric_field(header + 124, 12, &bytes))
        FAIL(STATUS_DATA, "%s: not a tar archive, or damaged, at byte %llu", w->range->name,
             (unsigned long long)w->position);
    if (!extension && w->has_size)
        bytes = w->size;
    if (type >= '1' && type <= '6')
        bytes = 0; /* a link's size is that of its target */
    if (type == 'S')
        TRY(skip_sparse_map(w, header));
    if (bytes > w->range->bytes - w->position - TAR_BLOCK)
        FAIL(STATUS_DATA, "%s: truncated: a member of %llu bytes at byte %llu of %llu", w->range->name,
             (unsigned long long)bytes, (unsigned long long)w->position, (unsigned long long)w->range->bytes);
    if (extension) {
        TRY(read_extension(w, type, bytes));
    } else {
        if (type != 'V') /* V: the archive's label */
            TRY(visit_member(w, header, bytes, visit, context));
        w->has_size = w->sparse = false;
    }
    w->position += TAR_BLOCK + round_up(bytes, TAR_BLOCK);
fail:
    return status;
}

/* Tells how the archive ends, where no header follows: there should be only zeros. */
static enum status find_end(const struct walk *w, enum archive_end *end)
{
    enum status status = STATUS_OK;
    const struct tar_range *range = w->range;
    uint8_t block[TAR_BLOCK];
    *end = w->position < range->bytes ? ARCHIVE_END_GOOD : ARCHIVE_END_MISSING;
    for (uint64_t at = w->position;
         at < range->bytes && range->bytes - at >= TAR_BLOCK && at - w->position < MAX_PADDING; at += TAR_BLOCK) {
        TRY(read_range(range, at, block, TAR_BLOCK));
        if (!all_zero(block)) {
            *end = ARCHIVE_END_EARLY;
            break;
        }
    }
fail:
    return status;
}

enum status tar_list(const struct tar_range *range, tar_visit *visit, void *context, enum archive_end *end)
{
    enum status status = STATUS_OK;
    struct walk w = { .range = range };
    uint8_t header[TAR_BLOCK];
    while (w.position < range->bytes) {
        TRY(read_range(range, w.position, header, TAR_BLOCK));
        if (all_zero(header))
            break;
        TRY(next_member(&w, header, visit, context));
    }
    TRY(find_end(&w, end));
fail:
    free(w.extension);
    free(w.name);
    return status;
}
