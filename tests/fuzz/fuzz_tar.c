/* fuzz_tar.c - lists any bytes as a tar archive, and its members as tars. With an odd first byte every block of 512
 * bytes gets a valid header checksum, so that what follows it is reached. Members must lie inside the archive, and
 * their names must be within the limit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/sources/tar_index.h"
#include "tests/fuzz/fuzz.h"

enum { TAR_BLOCK = 512 };

struct visit {
    const struct tar_range *range;
    int depth, members;
};

static void put_checksum(uint8_t *header)
{
    unsigned sum = 0;
    memset(header + 148, ' ', 8);
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += header[i];
    snprintf((char *)header + 148, 7, "%06o", sum);
}

/* Writes a header and its content, padded with zeros; returns the number of bytes. */
static size_t put_member(uint8_t *out, const char *name, char type, const void *content, size_t bytes)
{
    size_t padded = (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    memset(out, 0, TAR_BLOCK + padded);
    snprintf((char *)out, 100, "%s", name);
    snprintf((char *)out + 124, 12, "%011zo", bytes);
    out[156] = (uint8_t)type;
    memcpy(out + 257, "ustar\00000", 8);
    put_checksum(out);
    memcpy(out + TAR_BLOCK, content, bytes);
    return TAR_BLOCK + padded;
}

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    static const char pax[] = "30 path=n01440764/picture.JPEG\n13 size=700\n";
    uint8_t inner[2 * TAR_BLOCK];
    uint8_t *at = out + 1;
    if (index > 4 || capacity < 7 * TAR_BLOCK)
        return 0;
    out[0] = (unsigned char)index;
    if (index == 0 || index == 4) {
        at += put_member(at, "class/", '5', "", 0);
        at += put_member(at, "class/a.JPEG", '0', "content", 7);
        at += put_member(at, "class/link", '2', "", 0);
    } else if (index == 1) {
        at += put_member(at, "././@LongLink", 'L', "class/a-long-name.JPEG", 23);
        at += put_member(at, "class/a", '0', "content", 7);
    } else if (index == 2) {
        at += put_member(at, "pax", 'x', pax, sizeof pax - 1);
        at += put_member(at, "short", '0', pax, 40);
        at += TAR_BLOCK;
    } else {
        put_member(inner, "a.JPEG", '0', "content", 7);
        at += put_member(at, "n1.tar", '0', inner, sizeof inner);
    }
    memset(at, 0, TAR_BLOCK);
    return (size_t)(at - out) + TAR_BLOCK;
}

static enum status visit(void *context, const struct member *member, uint64_t offset)
{
    struct visit *v = context;
    const struct tar_range *r = v->range;
    if (member->bytes < 0 || offset < r->offset || offset - r->offset > r->bytes ||
        (uint64_t)member->bytes > r->bytes - (offset - r->offset) || strlen(member->name) > 4096)
        abort();
    v->members++;
    for (const char *part = member->name; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
        if (*member->name &&
            (!*part || *part == '/' || !strncmp(part, "./", 2) || !strcmp(part, "..") || !strncmp(part, "../", 3)))
            abort();
    if (v->depth == 0 && member->kind == MEMBER_FILE) {
        struct tar_range inner = { "inner", -1, r->memory, offset, (uint64_t)member->bytes };
        struct visit below = { &inner, 1, 0 };
        enum archive_end end;
        enum status status = tar_list(&inner, visit, &below, &end);
        if (status != STATUS_OK && status != STATUS_DATA)
            abort();
    }
    return STATUS_OK;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    bool is_tar;
    enum archive_end end;
    if (!size)
        return 0;
    uint8_t *copy = malloc(size);
    if (!copy)
        abort();
    memcpy(copy, data + 1, size - 1);
    for (size_t at = 0; data[0] % 2 && at + TAR_BLOCK < size; at += TAR_BLOCK)
        if (copy[at])
            put_checksum(copy + at);
    struct tar_range range = { "fuzz", -1, copy, 0, size - 1 };
    struct visit v = { &range, 0, 0 };
    enum status status = tar_list(&range, visit, &v, &end);
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (tar_recognise(&range, &is_tar) != STATUS_OK)
        abort();
    free(copy);
    return 0;
}
